"""Storage commitment, Push Model (PS3.4 Annex J): asking a PACS for it, and answering who asks us."""
