"""The options that keep one visitor's requests from taking what all need."""

from dataclasses import dataclass

from .settings_fields import option


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """The part of `Settings` about what requests may cost."""

    rate_limit: str | None = option(
        None,
        "Questions that one owner may ask, such as `20/minute;200/day`; more are `rate_limited`. "
        "Conversations created without a question have the same limit. Unset: `20/minute;200/day` "
        "for visitors where a key is set and the upstream is not on this machine. `0`: no limit.",
    )
    rate_limit_address: str | None = option(
        None,
        "The same for all visitors of one address together, or of one IPv6 network of 64 bits; "
        "more are `rate_limited`. Unset: as `CHATAPP_RATE_LIMIT`. `0`: no limit.",
    )
    rate_limit_all: str | None = option(
        None,
        "The same for all owners together. Unset: `120/minute;2000/day` for visitors, as with "
        "`CHATAPP_RATE_LIMIT`. `0`: no limit.",
    )
    rate_limit_storage: str | None = option(
        None,
        "Where questions are counted: for all workers in `redis://…`, or in each worker's memory "
        "with `memory://`; unset: in the database, for all workers.",
        hidden=True,
    )
    new_visitors: str | None = option(
        None,
        "Visitors without a cookie who may come from one address; more are `rate_limited`. Unset: "
        "`60/hour`, as with `CHATAPP_RATE_LIMIT`. `0`: no limit.",
    )
    new_conversations: str = option(
        "1000/hour",
        "Conversations that one owner, and one address, may create without a question; more are "
        "`rate_limited`. `0`: no limit.",
    )
    tokens_per_day: int | None = option(
        None,
        "Tokens that one owner may use per UTC day, prompts included; then `quota_used`. Unset: "
        "500000 for visitors, as with `CHATAPP_RATE_LIMIT`. `0`: no limit.",
        minimum=0,
    )
    max_running_per_owner: int = option(
        16, "Concurrent answers of one owner; more are `too_many_running`.", minimum=1
    )
    max_streams_per_owner: int = option(
        48,
        "Event streams that one owner may have open in one worker, of pages and answers together; "
        "more are `too_many_streams`.",
        minimum=1,
    )
    max_streams_per_address: int = option(
        200,
        "The same for all visitors without a log-in from one address (IPv6: one /64 network). "
        "Addresses of private networks, such as a proxy's own, are not counted.",
        minimum=1,
    )
    stream_age: float = option(
        60.0,
        "Seconds after which an event stream of somebody who has signed in ends; its client "
        "reconnects, and so shows who it is. 0: never.",
        minimum=0,
    )
    max_searches: int = option(
        1,
        "Concurrent searches of conversations in one worker. Others wait, one of each owner; more "
        "are `search_busy`.",
        minimum=1,
    )
    search_timeout: float = option(
        5.0,
        "Seconds that a search may wait, and then take; then it is `search_busy`.",
        minimum=0.01,
    )
    body_max_bytes: int = option(
        2 << 20, "Maximum bytes of a request's body; more is `body_too_large`.", minimum=1024
    )
    body_max_values: int = option(
        20_000,
        "Maximum values, nested ones included, of a request's JSON; more is `body_too_large`.",
        minimum=100,
    )
    histories_max_bytes: int = option(
        64 << 20,
        "Maximum bytes of the histories (`messages`) of all running answers in one worker; more "
        "are `too_many_answers`.",
        minimum=1024,
    )
