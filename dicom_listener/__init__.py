"""The Storage SCP: images that a PACS or scanner sends by C-STORE become durable files of the spool, undecoded.

`server.StorageListener` is the listener, `main.serve` the program.
"""
