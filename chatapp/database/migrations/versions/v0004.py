"""Counts of tokens of any size."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Widen the ledger's count."""
    with op.batch_alter_table("chatapp_calls") as calls:
        calls.alter_column("total_tokens", type_=sa.BigInteger, existing_nullable=False)
