"""From the spool to cases: index each instance, decide when a series is complete and whether it is analysed."""
