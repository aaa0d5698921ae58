"""The daemon program: turns received instances into cases and queued work. `daemon.program.serve` runs it.

Its components share only the spool and the ledger: `watch` fills the spool from watched folders, `intake` turns it into cases,
`upkeep` publishes committed work, posts lost work again, and removes files after their days.
"""
