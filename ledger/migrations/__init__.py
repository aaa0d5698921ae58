"""Alembic revision scripts of the ledger's schema, one per layout that was ever on the main branch; run by `ledger.schema`.

A change of `ledger/tables.py` needs a new script here: copy the newest one, raise `revision`, name the one before it in
`down_revision`, and describe the change with `alembic.op`, independently of `ledger/tables.py`, which will change again. SQLite
changes an existing column only through `op.batch_alter_table`. `tests/contract/test_ledger_layout.py` fails until script and model
agree on both databases.
"""
