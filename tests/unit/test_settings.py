"""Options come from the application or the environment, and a wrong one says what is wrong."""

import dataclasses
import threading

import pytest

from chatapp.errors import ConfigError
from chatapp.settings import Settings, variable

OPTIONS = dataclasses.fields(Settings)


def test_the_defaults_hold_where_nothing_is_set() -> None:
    assert Settings.load({}, {}) == Settings()


@pytest.mark.parametrize("name", ["CHATAPP_MAX_RUNNING", "OPENAI_API_KEY"])
def test_the_application_wins_over_the_environment(name: str) -> None:
    settings = Settings.load({name: "7"}, {name: "8"})
    assert str(settings.max_running if "RUNNING" in name else settings.api_key) == "7"


@pytest.mark.parametrize("nothing", ["", None])
def test_an_empty_value_is_no_value(nothing: str | None) -> None:
    assert Settings.load({"CHATAPP_MODEL": nothing}, {"CHATAPP_MODEL": "m"}).model == "m"


def test_other_peoples_names_are_not_looked_at() -> None:
    assert Settings.load({"DEBUG": 1, "SQLALCHEMY_X": object()}, {"PATH": "/"}) == Settings()


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("CHATAPP_MAX_RUNING", "CHATAPP_MAX_RUNNING"),
        ("CHATAPP_HEARTBEATS", "CHATAPP_HEARTBEAT"),
        ("CHATAPP_ORIGINS", "CHATAPP_CORS_ORIGINS"),
    ],
)
@pytest.mark.parametrize("in_environment", [True, False])
def test_an_unknown_option_is_an_error_that_names_the_nearest(
    name: str, near: str, in_environment: bool
) -> None:
    source = {name: "1"}
    with pytest.raises(ConfigError, match=f"{name}.*{near}"):
        Settings.load({}, source) if in_environment else Settings.load(source, {})


@pytest.mark.parametrize(
    ("given", "expected"),
    [("1", True), ("Yes", True), (" on ", True), (True, True), ("0", False), ("FALSE", False)],
)
def test_truth_values(given: object, expected: bool) -> None:
    assert Settings.load({"CHATAPP_LOCAL_MODEL": given}, {}).local_model is expected


@pytest.mark.parametrize("given", ["a, b,,c ", ("a", "b", "c"), ["a", " b", "c"]])
def test_lists_are_separated_by_commas_or_given_as_such(given: object) -> None:
    assert Settings.load({"CHATAPP_MODELS": given}, {}).models == ("a", "b", "c")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CHATAPP_MAX_RUNNING", "many"),
        ("CHATAPP_MAX_RUNNING", "1.5"),
        ("CHATAPP_MAX_RUNNING", float("inf")),
        ("CHATAPP_MAX_RUNNING", "0"),
        ("CHATAPP_MAX_RUNNING", []),
        ("CHATAPP_HEARTBEAT", "soon"),
        ("CHATAPP_HEARTBEAT", "nan"),
        ("CHATAPP_HEARTBEAT", "-1"),
        ("CHATAPP_HEARTBEAT", "inf"),
        ("CHATAPP_START_WAIT", "1e300"),
        ("CHATAPP_LOCAL_MODEL", "perhaps"),
        ("CHATAPP_MODELS", 5),
        ("CHATAPP_MODELS", [5]),
        ("CHATAPP_TRANSPORT", "pigeon"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_option(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=name):
        Settings.load({name: value}, {})


def test_every_time_that_is_accepted_can_be_waited_for() -> None:
    """A wait of more seconds than the platform can count would fail in the middle of an answer."""
    longest = threading.TIMEOUT_MAX
    times = [each for each in OPTIONS if each.type is float]
    settings = Settings.load({variable(each): longest for each in times}, {})
    happened = threading.Event()
    happened.set()
    for each in times:
        assert happened.wait(getattr(settings, each.name))


def test_every_option_is_documented_and_its_default_is_within_its_bounds() -> None:
    names = [variable(each) for each in OPTIONS]
    assert len(names) == len(set(names))
    for each in OPTIONS:
        assert each.metadata["doc"].endswith(".")
        if each.default is not None and each.type in (int, float, bool):
            loaded = Settings.load({variable(each): each.default}, {})
            assert getattr(loaded, each.name) == each.default
        minimum = each.metadata["minimum"]
        if minimum is not None:
            assert getattr(Settings.load({variable(each): minimum}, {}), each.name) == minimum


def test_settings_can_not_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().max_running = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "named", "wants_local"),
    [
        ({}, False, True),
        ({"api_key": "k"}, True, False),
        ({"base_url": "http://x/v1"}, True, False),
        ({"azure_endpoint": "https://x"}, True, False),
        ({"local_model": False}, False, False),
    ],
)
def test_the_local_model_answers_only_where_nobody_else_is_named(
    options: dict[str, object], named: bool, wants_local: bool
) -> None:
    settings = Settings(**options)
    assert (settings.upstream_named, settings.wants_local_model) == (named, wants_local)


@pytest.mark.parametrize("name", ["OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT"])
def test_an_address_without_a_scheme_is_refused_at_start(name: str) -> None:
    with pytest.raises(ConfigError, match="must begin with http"):
        Settings.load({}, {name: "localhost:11434/v1"})
