"""The steps of the work on one case, in order: `prepare`, `detect`, `render`, `deliver`; each knows the case folder only."""
