"""Errors are a closed list of codes, and their bodies carry nothing but what a visitor may read."""

import importlib
import pkgutil

import pytest

import chatapp
from chatapp.errors import CODES, ChatAppError


def _all_errors() -> list[type[ChatAppError]]:
    """Every error of the package, also those outside `errors`."""
    for module in pkgutil.walk_packages(chatapp.__path__, "chatapp."):
        importlib.import_module(module.name)
    found: list[type[ChatAppError]] = []
    new = [ChatAppError]
    while new:
        found += new
        new = [child for each in new for child in each.__subclasses__()]
    return found


# `internal` is the root's own code, which `InternalError` keeps.
ERRORS = [each for each in _all_errors() if each is not ChatAppError]


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: each.__name__)
def test_every_error_is_in_the_closed_list_under_a_code_of_its_own(
    error: type[ChatAppError],
) -> None:
    assert CODES.get(error.code) is error


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: each.__name__)
def test_every_status_is_an_http_error(error: type[ChatAppError]) -> None:
    assert 400 <= error.status < 600


def test_the_list_holds_no_code_without_an_error() -> None:
    assert {code: error.code for code, error in CODES.items()} == {code: code for code in CODES}
    assert set(CODES) == {each.code for each in ERRORS}


@pytest.mark.parametrize("error", ERRORS, ids=lambda each: each.__name__)
def test_the_body_and_the_event_carry_the_fields_of_the_contract_and_no_more(
    error: type[ChatAppError],
) -> None:
    made = error("Something.", param="field", retry_after=3.5)
    inner = {"code": error.code, "message": "Something.", "param": "field"}
    assert made.body() == {"error": inner}
    fields = {"code": error.code, "message": "Something.", "retryable": error.retryable}
    assert made.fields() == fields
    assert (str(made), made.retry_after) == ("Something.", 3.5)


def test_a_fault_of_the_request_itself_is_not_worth_a_retry() -> None:
    """400 and its kind mean: the same request would fail again."""
    lasting = {400, 403, 404, 405, 413, 415}
    assert not [each for each in ERRORS if each.status in lasting and each.retryable]
