"""Durable state: received instances as files, and the state of every arrival, case and delivery as rows of one database.

| module | holds |
|---|---|
| `spool` | received instances as files, one folder per arrival; needs no database |
| `store` | `Ledger`, which opens the database and holds an object for each of the parts below |
| `intake`, `single_file_cases` | arrivals, instances, and files that belong to no series |
| `cases`, `deliveries`, `delivery_states` | states of cases and deliveries, claims, retries |
| `alerts`, `digests`, `mail_receipts` | acknowledgement and escalation, many cases in one mail, who has which mail |
| `stored_objects` | which objects of a case an archive has |
| `commitment_requests_sent`, `commitment_requests_received`, `commitment_inbox` | storage commitment |
| `outbox`, `audit_trail`, `clock_shift` | work for the broker, the append-only trail, a system clock that was set |
| `tables`, `schema`, `migrations`, `database` | the model, its migrations by Alembic, the connection |
"""
