"""A sampling option has a value that the upstream can take, or the request is refused by name."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatapp.errors import InvalidRequest
from chatapp.generation.sampling import SAMPLING_OPTIONS, sampling_of
from tests.support.hypothesis_settings import FEW

JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.none())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 0),
        ("temperature", 2),
        ("top_p", 0.5),
        ("max_tokens", 1),
        ("reasoning_effort", "high"),
    ],
)
def test_what_upstreams_take_is_accepted(name: str, value: Any) -> None:
    SAMPLING_OPTIONS[name].check(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", 2.01),
        ("temperature", -0.01),
        ("temperature", True),
        ("temperature", float("nan")),
        ("temperature", "1"),
        ("top_p", float("inf")),
        ("max_tokens", 0),
        ("max_tokens", 1.0),
        ("max_tokens", None),
        ("reasoning_effort", "HIGH"),
        ("reasoning_effort", "high\n"),
        ("reasoning_effort", ""),
        ("reasoning_effort", ["high"]),
    ],
)
def test_what_they_do_not_take_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        SAMPLING_OPTIONS[name].check(name, value)
    assert refused.value.param == name
    assert name in refused.value.message


@FEW
@given(st.sampled_from(sorted(SAMPLING_OPTIONS)), JSON)
def test_no_value_is_another_error(name: str, value: Any) -> None:
    with contextlib.suppress(InvalidRequest):
        SAMPLING_OPTIONS[name].check(name, value)


@given(st.dictionaries(st.sampled_from([*SAMPLING_OPTIONS, "model", "system_prompt"]), JSON))
@FEW
def test_of_a_conversations_settings_only_these_go_with_the_request(settings: Any) -> None:
    chosen = sampling_of(settings, 10**1000)
    assert set(chosen) == set(settings) & set(SAMPLING_OPTIONS)
    assert all(chosen[name] is settings[name] for name in chosen)
