"""Counts of what was done in a while; conversations by their last use."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the table and the index."""
    op.create_table(
        "chatapp_rates",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
        sa.Column("used", sa.Integer, nullable=False),
    )
    op.create_index("chatapp_rates_ends", "chatapp_rates", ["ends_at"])
    op.create_index("chatapp_conversations_used", "chatapp_conversations", ["updated_at"])
