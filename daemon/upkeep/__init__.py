"""Periodic work: publish the outbox, repost lost work, retention, recovery, storage commitment, audit forwarding, escalation."""
