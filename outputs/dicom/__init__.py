"""DICOM objects of a result, one module per kind; `writing.write_objects` makes them all.

Nothing is imported here: `kinds` and `manifest` are read by programs that need no DICOM library.
"""
