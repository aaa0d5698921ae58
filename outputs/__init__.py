"""What people see, and how it reaches them: pages, DICOM objects, and one destination per file."""
