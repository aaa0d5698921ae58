"""The program that turns arrived images into cases and queued work.

Its parts meet only at the spool and the ledger: watch folders fill the spool, the assembler turns it into cases, the dispatcher
hands committed work to the broker, the reconciler posts again what was lost on the way, and retention clears what is over.
"""
