"""The options that keep one visitor's requests from taking what all need."""

from dataclasses import dataclass

from .settings_fields import option


@dataclass(frozen=True, kw_only=True)
class CostSettings:
    """The part of `Settings` about what requests may cost."""

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
