"""Conversations, messages, upstream calls, and the event log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

JSON = sa.JSON()


def upgrade() -> None:
    """Make all tables."""
    _conversations()
    _messages()
    _calls()
    _answers()
    _publications()


def _conversations() -> None:
    op.create_table(
        "chatapp_conversations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("title", sa.Text),
        sa.Column("draft_title", sa.Boolean, nullable=False),
        sa.Column("settings", JSON, nullable=False),
        sa.Column("leaf", sa.Text),
        sa.Column("running", sa.Text),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    _index("conversations", "newest", "owner", "updated_at", "id")
    is_running = sa.text("running IS NOT NULL")
    op.create_index(
        "chatapp_conversations_running",
        "chatapp_conversations",
        ["running"],
        sqlite_where=is_running,
        postgresql_where=is_running,
    )


def _messages() -> None:
    op.create_table(
        "chatapp_messages",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column(
            "conversation_id",
            sa.Text,
            sa.ForeignKey("chatapp_conversations.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("parent", sa.Text),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("reasoning", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("finish_reason", sa.Text),
        sa.Column("usage", JSON),
        sa.Column("usage_source", sa.Text),
        sa.Column("error", JSON),
        sa.Column("last_event", sa.Integer, nullable=False),
        sa.Column("leaf_before", sa.Text),
        sa.Column("opens", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    _index("messages", "conversation", "conversation_id", "number")


def _calls() -> None:
    op.create_table(
        "chatapp_calls",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("answer_id", sa.Text, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("ended_at", sa.BigInteger),
        sa.Column("outcome", sa.Text),
        sa.Column("usage", JSON),
        sa.Column("usage_source", sa.Text),
        sa.Column("total_tokens", sa.Integer, nullable=False),
    )
    _index("calls", "answer", "answer_id")
    _index("calls", "owner", "owner", "started_at")
    _index("calls", "started", "started_at")


def _answers() -> None:
    op.create_table(
        "chatapp_answers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("key", sa.Text),
        sa.Column("conversation_id", sa.Text),
        sa.Column("model", sa.Text),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("writer", sa.Text),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("stop", sa.Boolean, nullable=False),
        sa.Column("last_event", sa.Integer, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("log_bytes", sa.BigInteger),
        sa.Column("request", sa.LargeBinary),
        sa.Column("refusal", sa.LargeBinary),
        sa.UniqueConstraint("owner", "key", name="chatapp_answers_owner_key"),
    )
    _index("answers", "writer", "writer", "ended_at")
    _index("answers", "ended_at", "ended_at")
    op.create_table(
        "chatapp_segments",
        sa.Column("answer_id", sa.Text, primary_key=True),
        sa.Column("first", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.Integer, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("wire", sa.LargeBinary, nullable=False),
    )


def _publications() -> None:
    op.create_table(
        "chatapp_workers",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("beat", sa.Integer, nullable=False),
    )
    op.create_table(
        "chatapp_publications",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("recipient", sa.Text),
        sa.Column("event", sa.Text, nullable=False),
        sa.Column("data", sa.LargeBinary, nullable=False),
        sa.Column("published_at", sa.Float, nullable=False),
    )
    _index("publications", "published_at", "published_at")
    op.create_table(
        "chatapp_counters",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
    )


def _index(table: str, name: str, *columns: str) -> None:
    op.create_index(f"chatapp_{table}_{name}", f"chatapp_{table}", list(columns))
