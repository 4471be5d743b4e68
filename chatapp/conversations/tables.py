"""The tables of the store. Moments are microseconds since 1970, in UTC.

The migrations create what is declared here and in `eventlog/sql/tables`; a test compares them.
"""

from typing import Final

import sqlalchemy as sa

from ..database.schema import JSON, metadata

conversations: Final = sa.Table(
    "chatapp_conversations",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("title", sa.Text),
    # Whether the title came from the question alone, and the first answer may add to it.
    sa.Column("draft_title", sa.Boolean, nullable=False),
    sa.Column("settings", JSON, nullable=False),
    # The last message of the branch that is shown.
    sa.Column("leaf", sa.Text),
    # The running answer.
    sa.Column("running", sa.Text),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Index("chatapp_conversations_newest", "owner", "updated_at", "id"),
    sa.Index("chatapp_conversations_used", "updated_at"),
)
sa.Index(
    "chatapp_conversations_running",
    conversations.c.running,
    sqlite_where=conversations.c.running.is_not(None),
    postgresql_where=conversations.c.running.is_not(None),
)

messages: Final = sa.Table(
    "chatapp_messages",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column(
        "conversation_id",
        sa.Text,
        sa.ForeignKey("chatapp_conversations.id", ondelete="CASCADE"),
        nullable=False,
    ),
    # Increases in the order of writing within a conversation.
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
    sa.Index("chatapp_messages_conversation", "conversation_id", "number"),
)

calls: Final = sa.Table(
    "chatapp_calls",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("answer_id", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("model", sa.Text),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("ended_at", sa.BigInteger),
    sa.Column("outcome", sa.Text),
    sa.Column("usage", JSON),
    sa.Column("usage_source", sa.Text),
    sa.Column("total_tokens", sa.BigInteger, nullable=False),
    # The worker that has made it.
    sa.Column("writer", sa.Text),
    # What its answer counts under as a concurrent one, until it ends.
    sa.Column("running_key", sa.Text),
    # Estimated when it begins, in case it is cut.
    sa.Column("prompt_tokens", sa.Integer, nullable=False, server_default="0"),
    sa.Index("chatapp_calls_answer", "answer_id"),
    sa.Index("chatapp_calls_owner", "owner", "started_at"),
    sa.Index("chatapp_calls_started", "started_at"),
)
for _name, _column in (("writer", calls.c.writer), ("running", calls.c.running_key)):
    sa.Index(
        f"chatapp_calls_{_name}",
        _column,
        sqlite_where=calls.c.ended_at.is_(None),
        postgresql_where=calls.c.ended_at.is_(None),
    )
