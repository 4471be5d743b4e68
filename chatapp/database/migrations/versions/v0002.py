"""A call's worker, slot and prompt; an answer's crashes, and its readers at other workers."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns. Existing entries have no writer, and don't count as running."""
    for name in ("writer", "running_key"):
        op.add_column("chatapp_calls", sa.Column(name, sa.Text))
    _add_count("chatapp_calls", "prompt_tokens")
    _add_count("chatapp_answers", "crashes")
    _add_count("chatapp_answers", "reads")
    is_open = sa.text("ended_at IS NULL")
    for name, column in (("writer", "writer"), ("running", "running_key")):
        op.create_index(
            f"chatapp_calls_{name}",
            "chatapp_calls",
            [column],
            sqlite_where=is_open,
            postgresql_where=is_open,
        )


def _add_count(table: str, name: str) -> None:
    op.add_column(table, sa.Column(name, sa.Integer, nullable=False, server_default="0"))
