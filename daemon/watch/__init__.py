"""The watched folders: a dropped folder, file or zip becomes an arrival in the spool."""
