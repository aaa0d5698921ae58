"""Training of the demonstration model. Not needed to run corewatch; TensorFlow is imported by the programs in here."""
