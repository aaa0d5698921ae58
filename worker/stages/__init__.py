"""The steps of the work on one case, in order: `prepare`, `detect`, `render`, `deliver`. Each reads and writes the case folder only."""
