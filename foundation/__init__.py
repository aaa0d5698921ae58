"""Shared access to the operating system and the network: durable files, locks, retries, logging of outages, the DICOM client."""
