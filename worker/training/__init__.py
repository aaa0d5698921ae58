"""Training of the demonstration model. Not needed to run corewatch."""
