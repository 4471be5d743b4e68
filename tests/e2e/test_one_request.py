"""Whatever a server sends: one question is one request, and one entry of the ledger."""

import json
from collections.abc import Iterator

import pytest

from tests.support.dialects import Dialect, dialects
from tests.support.embedded_app import Served
from tests.support.upstream import poll

HOST = '''
import json
from flask import Flask
from chatapp import AnswerRequest, ChatApp

app = Flask(__name__)
app.secret_key = "secret"
chat = ChatApp(app)


@chat.before_answer
def options(request: AnswerRequest) -> None:
    """The question has them, for a visitor may not choose each."""
    request.model, _, options = request.messages[-1]["content"].partition(" ")
    request.options |= json.loads(options)
'''
ROWS = "SELECT outcome FROM chatapp_calls WHERE ended_at IS NOT NULL ORDER BY started_at"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("host"), HOST, CHATAPP_START_WAIT="0")
    yield served
    served.close()


@pytest.mark.parametrize("dialect", dialects("streams") + dialects("refusals"), ids=str)
def test_one_question_is_one_request_but_for_the_single_second_try(
    site: Served, dialect: Dialect
) -> None:
    question = f"{dialect.name} {json.dumps(dialect.ask.options)}"
    site.scripts[question] = dialect
    visitor = site.visitor()
    before = len(site.rows(ROWS))
    asked = visitor.call("POST", "/api/chat", {"message": question})
    if asked.status == 202:  # else it was refused before the reply went out
        assert visitor.stream(asked.json["events"]).all()[-1].is_end
    tries = dialect.answer.get("tries", 1)
    outcomes = poll(lambda: len(found := site.rows(ROWS)[before:]) >= tries and found)
    assert len(site.calls(question)) == len(outcomes) == tries
    assert [outcome for (outcome,) in outcomes[:-1]] == ["refused"] * (tries - 1)
    assert outcomes[-1][0] in ("done", "failed", "refused")
