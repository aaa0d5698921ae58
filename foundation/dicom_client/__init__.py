"""The DICOM client (SCU): association, verification, storage, storage commitment, query and retrieve."""
