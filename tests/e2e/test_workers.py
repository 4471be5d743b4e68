"""An answer belongs to the service: every worker, on every machine, reads, resumes and stops it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.client import Client, Reply, Sent, Stream, joined
from tests.support.cluster import Cluster
from tests.support.resuming_reader import Resumer
from tests.support.shared_server import ended
from tests.support.upstream import Call, poll, speak

WORDS = [f"Wort {n}, 第{n}个词。 " for n in range(40)]
TEXT = "".join(WORDS)


def everywhere(cluster: Cluster, visitor: list[Client]) -> list[Client]:
    """Enough connections that each worker gets some."""
    return visitor * (8 // len(cluster.servers))


def test_readers_that_come_back_land_on_all_workers_and_every_text_is_exact(
    cluster: Cluster,
) -> None:
    cluster.scripts["read"] = speak(*WORDS, pause=0.05)
    readers = []
    for _ in range(4):
        visitor = cluster.visitor()
        answer = visitor[0].ask("read")
        readers += [Resumer(visitor, answer, cut_after=5) for _ in range(4)]
    for reader in readers:
        assert reader.finish().event == "done"
        reader.assert_exact(TEXT)
        # What a worker has not heard of yet, it waits for: nobody's text gets shorter.
        assert [event for event in reader.events if event.event == "snapshot"] == []
    assert max(reader.connections for reader in readers) > 4
    assert len(cluster.upstream.calls_for("read")) == 4


def test_an_ended_answer_is_read_from_its_first_event_by_every_worker(cluster: Cluster) -> None:
    cluster.scripts["ended"] = speak(*WORDS)
    visitor = cluster.visitor()
    answer = visitor[0].ask("ended")
    whole = Resumer(visitor[:1], answer)
    whole.finish()
    for client in everywhere(cluster, visitor):
        again = poll(lambda client=client: ended_events(client, answer["answer"]["id"]))
        assert again == whole.events
        snapshot = poll(ended(client, answer))
        assert (snapshot["text"], snapshot["status"]) == (TEXT, "done")


def ended_events(client: Client, answer_id: str) -> list[Sent] | None:
    """What a worker has of an ended answer, once it has its end."""
    events = client.stream(f"/api/answers/{answer_id}/events").all()
    return events if events and events[-1].is_end else None


def test_an_answer_that_has_just_begun_as_a_stream_is_found_by_every_worker(
    cluster: Cluster,
) -> None:
    cluster.scripts["just now"] = speak(*WORDS)
    visitor = cluster.visitor()
    alone = {"messages": [{"role": "user", "content": "just now"}]}
    for question in [{"message": "just now"}, alone] * 3:
        begun = visitor[0].request("POST", "/api/chat", question, Accept="text/event-stream")
        path = f"/api/answers/{begun.headers['X-Answer-Id']}"
        asked = [client.request("GET", path) for client in everywhere(cluster, visitor)]
        assert [reply.status for reply in asked] == [200] * len(asked)
        for reply in (begun, *asked):
            reply.close()


def test_every_worker_stops_every_answer(cluster: Cluster) -> None:
    visitor = cluster.visitor()
    for number, client in enumerate(everywhere(cluster, visitor)):
        prompt = f"stop {number}"
        cluster.scripts[prompt] = endless
        answer = visitor[0].ask(prompt)
        reader = Resumer(visitor, answer, cut_after=3)
        call = cluster.upstream.call(prompt)
        poll(lambda reader=reader: "begun" in reader.text)
        assert client.call("POST", answer["stop"]).status == 202
        assert call.closed.wait(10), "the upstream was not closed"
        assert reader.finish().data["finish_reason"] == "stopped"
        reader.assert_exact("begun ")


def endless(call: Call) -> None:
    call.head()
    call.text("begun ")
    call.wait_closed(60)


def test_fifty_simultaneous_posts_with_one_key_are_one_answer(cluster: Cluster) -> None:
    """One upstream request, fifty times the same events."""
    cluster.scripts["once"] = speak(*WORDS, pause=0.02)
    visitor = cluster.visitor()
    gate = threading.Barrier(50)

    def post(number: int) -> list[Sent]:
        client = visitor[number % len(visitor)]
        gate.wait(30)
        accept, key = "text/event-stream", "the-key"
        response = client.request(
            "POST", "/api/chat", {"message": "once"}, Accept=accept, Idempotency_Key=key
        )
        return Stream(response).all()

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(post, range(50)))
    assert len(cluster.upstream.calls_for("once")) == 1
    assert all(answer == answers[0] for answer in answers)
    assert joined(answers[0]) == TEXT


def test_a_refusal_reaches_everybody_with_the_key_and_frees_it(cluster: Cluster) -> None:
    cluster.scripts["refused"] = lambda call: call.refuse(429, Retry_After="7")
    visitor = cluster.visitor()
    gate = threading.Barrier(8)

    def post(number: int) -> Reply:
        client = visitor[number % len(visitor)]
        gate.wait(30)
        return client.call("POST", "/api/chat", {"message": "refused"}, Idempotency_Key="no")

    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(post, range(8)))
    assert {reply.status for reply in replies} <= {429, 409}
    assert any(reply.error["code"] == "upstream_busy" for reply in replies)
    cluster.scripts["refused"] = speak("Now it works.")
    reply = visitor[-1].call("POST", "/api/chat", {"message": "refused"}, Idempotency_Key="no")
    assert reply.status == 202


def test_what_one_worker_publishes_reaches_the_pages_of_all(cluster: Cluster) -> None:
    """Each push connection sees the answer begin and end, in the order in which it did."""
    cluster.scripts["push"] = speak("Hello.")
    visitor = cluster.visitor()
    pages = [client.stream("/api/events") for client in everywhere(cluster, visitor)]
    seen: list[list[str]] = [[] for _ in pages]

    def listen(number: int) -> None:
        for event in pages[number]:
            if event.event == "answer":
                seen[number].append(event.data["action"])
            if seen[number][-1:] == ["finished"]:
                return

    threads = [threading.Thread(target=listen, args=(n,), daemon=True) for n in range(len(pages))]
    for thread in threads:
        thread.start()
    visitor[0].ask("push")
    for thread in threads:
        thread.join(30)
    for page in pages:
        page.close()
    assert seen == [["started", "finished"]] * len(pages)


def test_somebody_elses_answer_is_not_found_by_any_worker(cluster: Cluster) -> None:
    cluster.scripts["mine"] = speak(*WORDS, pause=0.02)
    answer = cluster.visitor()[0].ask("mine")
    stranger = cluster.visitor()
    path = f"/api/answers/{answer['answer']['id']}"
    for client in everywhere(cluster, stranger):
        assert client.get(path).status == 404
        assert client.get(f"{path}/events").status == 404
        assert client.call("POST", f"{path}/stop").status == 404


@pytest.mark.parametrize("granularity", ["word", "sentence", "full"])
def test_a_reader_elsewhere_may_have_every_granularity(cluster: Cluster, granularity: str) -> None:
    prompt = f"by {granularity}"
    cluster.scripts[prompt] = speak(*WORDS, pause=0.01)
    visitor = cluster.visitor()
    answer = visitor[0].ask(prompt)
    streams = [
        client.stream(f"{answer['events']}?granularity={granularity}")
        for client in everywhere(cluster, visitor)
    ]
    with ThreadPoolExecutor(len(streams)) as pool:
        for events in pool.map(lambda stream: stream.all(), streams):
            assert joined(events) == TEXT
