"""What the worklist shows and is searched by: placement range, scanner, keyed hashes of two identifiers; indices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add columns and indices. Cases from before have no range, no scanner, and are not found by accession number."""
    op.add_column("cases", sa.Column("core_ml_low", sa.Float))
    op.add_column("cases", sa.Column("core_ml_high", sa.Float))
    op.add_column("cases", sa.Column("unstable", sa.Boolean))
    op.add_column("cases", sa.Column("scanner", sa.String(160)))
    op.add_column("cases", sa.Column("accession_hash", sa.String(64)))
    op.add_column("cases", sa.Column("patient_id_hash", sa.String(64)))
    op.create_index("cases_by_last_image", "cases", ["last_stored_at", "case_id"])
    op.create_index("cases_by_accession", "cases", ["accession_hash"])
    op.create_index("cases_by_patient_id", "cases", ["patient_id_hash"])
    op.create_index("alerts_open", "alerts", ["acknowledged_at"])
