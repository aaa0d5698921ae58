"""The domain of corewatch: values, decisions and formulas without any input or output.

Everything here is pure: no files, no network, no clocks of its own. The other packages import it; it imports none of them.
"""

__version__ = "0.1.0"

RESEARCH_LABEL = "Research use only, not for diagnosis"
"""Stands on everything that is shown to a person."""
