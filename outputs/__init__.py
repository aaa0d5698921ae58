"""Outputs of a case: pages, DICOM objects, mails, and the destinations that they are delivered to.

`rendering.render_case` makes all pages and DICOM objects of a case; `destinations.build_destinations` makes what delivers them.
"""
