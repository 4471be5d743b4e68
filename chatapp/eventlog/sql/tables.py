"""The event log's tables. All times are Unix times, in seconds."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    UniqueConstraint,
)

from ...database.schema import metadata

ANSWERS = Table(
    "chatapp_answers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("key", Text),
    Column("conversation_id", Text),
    Column("model", Text),
    Column("created_at", Float, nullable=False),
    Column("writer", Text),
    Column("epoch", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("stop", Boolean, nullable=False),
    # The last event before the log; how far the log goes, only its segments say.
    Column("last_event", Integer, nullable=False),
    Column("ended_at", Float),
    Column("log_bytes", BigInteger),
    Column("request", LargeBinary),
    Column("refusal", LargeBinary),
    Column("crashes", Integer, nullable=False, server_default="0"),
    # How often somebody noted readers in another worker than the writer's.
    Column("reads", Integer, nullable=False, server_default="0"),
    UniqueConstraint("owner", "key", name="chatapp_answers_owner_key"),
    # A writer's ended answers are many, and asked for by nobody.
    Index("chatapp_answers_writer", "writer", "ended_at"),
    Index("chatapp_answers_ended_at", "ended_at"),
)
SEGMENTS = Table(
    "chatapp_segments",
    metadata,
    Column("answer_id", Text, primary_key=True),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("last", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("wire", LargeBinary, nullable=False),
)
WORKERS = Table(
    "chatapp_workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("beat", Integer, nullable=False),
)
PUBLICATIONS = Table(
    "chatapp_publications",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("recipient", Text),
    Column("event", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("published_at", Float, nullable=False),
    Index("chatapp_publications_published_at", "published_at"),
)
COUNTERS = Table(
    "chatapp_counters",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", BigInteger, nullable=False),
)
