"""Options come from the application or the environment, and a wrong one says what is wrong."""

import dataclasses
import threading
from pathlib import Path

import pytest
import trustme

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


@pytest.mark.parametrize(
    "around", ["{}", " {}\n", "\ufeff{}\r\n", '"{}"', "'{}' ", "\u200b{}\u00a0"]
)
@pytest.mark.parametrize("in_environment", [True, False])
def test_what_was_copied_along_is_left_out(around: str, in_environment: bool) -> None:
    values = {
        "OPENAI_API_KEY": "sk-a",
        "OPENAI_BASE_URL": "https://x/v1",
        "AZURE_OPENAI_ENDPOINT": "https://y",
        "AZURE_OPENAI_API_KEY": "az-a",
        "OPENAI_API_VERSION": "2024-10-21",
        "CHATAPP_MODEL": "m",
    }
    source = {name: around.format(value) for name, value in values.items()}
    settings = Settings.load({}, source) if in_environment else Settings.load(source, {})
    loaded = [settings.api_key, settings.base_url, settings.azure_endpoint, settings.azure_api_key]
    assert [*loaded, settings.azure_api_version, settings.model] == list(values.values())


def test_what_is_blank_is_no_value() -> None:
    names = ("OPENAI_API_KEY", "OPENAI_BASE_URL", "AZURE_OPENAI_ENDPOINT", "CHATAPP_MODEL")
    blank = dict.fromkeys(names, " \n")
    assert Settings.load(blank, {}) == Settings()
    assert Settings.load(blank, {"CHATAPP_MODEL": "m"}).model == "m"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("https://x/v1/", "https://x/v1"),
        ("https://x/v1/chat/completions", "https://x/v1"),
        ("https://x/v1/chat/completions/", "https://x/v1"),
        ("https://x/v1/completions", "https://x/v1"),
        ("https://x//v1//", "https://x/v1"),
        ("http://x:8000", "http://x:8000"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
        ("https://me:pass@x/v1", "https://me:pass@x/v1"),
        ("https://x/openai/v1/", "https://x/openai/v1"),
    ],
)
def test_an_address_is_the_one_that_is_plainly_meant(given: str, meant: str) -> None:
    assert Settings.load({}, {"OPENAI_BASE_URL": given}).base_url == meant
    assert Settings().changed({"base_url": given}).base_url == meant


@pytest.mark.parametrize(
    "given",
    [
        "https://x/v1?api-version=1", "https://x/v1#top", "https://", "http:///v1", "https://x y",
        "https://x/v\n1", "https://x:port/v1", "https://[x/v1", "ftp://x/v1", "https://x:99999/v1",
    ],
)  # fmt: skip
def test_an_address_that_is_none_is_refused_at_start(given: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_BASE_URL"):
        Settings.load({}, {"OPENAI_BASE_URL": given})


@pytest.mark.parametrize(
    "given",
    [
        "https://a.openai.azure.com",
        "https://a.openai.azure.com/",
        "https://a.openai.azure.com/openai",
        "https://a.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-02-01",
    ],
)
def test_an_azure_resource_is_found_in_what_azure_shows(given: str) -> None:
    source = {"AZURE_OPENAI_ENDPOINT": given, "OPENAI_API_VERSION": "1", "OPENAI_API_KEY": "k"}
    assert Settings.load({}, source).azure_endpoint == "https://a.openai.azure.com"


@pytest.mark.parametrize(
    ("others", "missing"),
    [
        ({"AZURE_OPENAI_API_KEY": "k"}, "OPENAI_API_VERSION"),
        ({"OPENAI_API_VERSION": "1"}, "AZURE_OPENAI_API_KEY"),
    ],
)
def test_azure_without_what_it_needs_is_refused_at_start(
    others: dict[str, str], missing: str
) -> None:
    source = {"AZURE_OPENAI_ENDPOINT": "https://x", **others}
    for load in (lambda: Settings.load({}, source), lambda: Settings.load(source, {})):
        with pytest.raises(ConfigError, match=f"AZURE_OPENAI_ENDPOINT needs {missing}"):
            load()
    with pytest.raises(ConfigError, match="OPENAI_API_VERSION"):
        Settings().changed({"azure_endpoint": "https://x"})


@pytest.mark.parametrize("given", ["sk-a\nb", "sk a", "sk-ä", "sk-\x00", "sk-’"])
def test_a_key_that_can_not_be_sent_is_refused_at_start_and_never_shown(given: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY has a character") as refused:
        Settings.load({}, {"OPENAI_API_KEY": given})
    assert given not in str(refused.value)


def test_a_key_may_come_as_its_header() -> None:
    assert Settings.load({}, {"OPENAI_API_KEY": "Bearer sk-a"}).api_key == "sk-a"


def test_certificates_that_are_not_there_are_refused_at_start(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("missing", "empty", "."):
        with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
            Settings.load({}, {"SSL_CERT_FILE": str(tmp_path / name)})
    for name in ("missing", "empty"):
        with pytest.raises(ConfigError, match="SSL_CERT_DIR"):
            Settings.load({}, {"SSL_CERT_DIR": str(tmp_path / name)})
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca"))
    source = {"SSL_CERT_FILE": str(tmp_path / "ca"), "SSL_CERT_DIR": str(tmp_path / "missing")}
    assert Settings.load({}, source) == Settings()
    assert Settings.load({}, {"SSL_CERT_DIR": str(tmp_path)}) == Settings()
