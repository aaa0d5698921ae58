"""The demonstration: everything a hospital has around corewatch, in one process, and a synthetic patient who is nobody."""
