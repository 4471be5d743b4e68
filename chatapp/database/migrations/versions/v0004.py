"""Counts of tokens of any size."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Widen the ledger's count. SQLite's integers have 64 bits, whatever they are called."""
    if op.get_bind().dialect.name == "postgresql":
        op.alter_column("chatapp_calls", "total_tokens", type_=sa.BigInteger)
