"""What every program needs of the operating system and the network: durable files, locks, clocks, the DICOM client."""
