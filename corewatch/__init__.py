"""The domain of corewatch: values, decisions and formulas without any input or output.

Everything here is pure: it reads no file, no network and no clock. The other packages import it; it imports none of them.
"""

__version__ = "0.1.0"

RESEARCH_LABEL = "Research use only, not for diagnosis"
"""Label on every page, mail and DICOM object."""
