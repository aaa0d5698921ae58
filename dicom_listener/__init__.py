"""Storage SCP: DICOM instances that a PACS or scanner sends by C-STORE become durable files of the spool, undecoded.

From the network inwards: `program.serve` runs `server.StorageListener`, which starts an `association.Association` per connection.
That runs the upper layer by `state_machine`'s table over `connection` (PDUs), `negotiation` and `policy`. `dispatch` gives each
DIMSE request to a service: `services.Verification`, `storage_scp.Storage`, `commitment_scp.StorageCommitment`.
"""
