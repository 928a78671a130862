"""An endpoint that begins to serve another model behind the same name is found out before spaces are mixed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pytest
from typer.testing import CliRunner

from diptych import Collection, Document
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.config import parse_config
from diptych.errors import FingerprintMismatch, RemoteError
from diptych.slots.canaries import TEXTS
from diptych.slots.guard import RECHECK
from diptych.testing.fakes import FakeDenseEncoder

if TYPE_CHECKING:
    from tests.integration.guard.conftest import ModelServer

PETS = [Document("cat", "a cat sat"), Document("dog", "a dog ran"), Document("hen", "a hen laid an egg")]
ADAPTERS: dict[str, dict[str, Any]] = {
    "openai": {"base_url": "/v1", "model": "m", "dimension": 32},
    "tei": {"base_url": "", "dimension": 32},
    "tei-sparse": {"base_url": "", "dimension": 1000},
}
Place: TypeAlias = dict[str, Any]
CHANGED = r"no longer makes the vectors it made \(canary cosine"


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def slot(server: ModelServer, adapter: str) -> dict[str, Any]:
    options = ADAPTERS[adapter]
    name = {"adapter": adapter} if adapter == "tei-sparse" else {"adapter": "remote", "api": adapter}
    return {**name, **options, "base_url": server.url + options["base_url"], "retries": 0}


def opened(server: ModelServer, place: Place, adapter: str = "openai", **more: Any) -> Collection:
    slots = {"s": slot(server, adapter)}
    config = {**place, "collection": "c", "slots": slots, "cache": {"enabled": False}} | more
    return Collection.open(parse_config(config))


def watched(collection: Collection) -> Clock:
    """The clock of the collection's slot, from now on in the test's hands."""
    clock = Clock()
    check = collection.handle.slot("s").remote_check
    check.clock = clock
    check.proved()
    return clock


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def filled(server: ModelServer, place: Place, adapter: str) -> Iterator[Collection]:
    with opened(server, place, adapter) as collection:
        collection.populate(PETS)
        yield collection


def test_a_changed_model_is_refused_at_opening(server: ModelServer, place: Place, adapter: str) -> None:
    with opened(server, place, adapter) as collection:
        collection.populate(PETS)
    with opened(server, place, adapter) as again:
        assert again.search("cat")[0].id == "cat"
    server.become(seed=1)
    with opened(server, place, adapter) as other:
        with pytest.raises(FingerprintMismatch, match=CHANGED):
            other.search("cat")
        with pytest.raises(FingerprintMismatch, match=CHANGED):
            other.populate([Document("owl", "an owl hunts")])
        assert other.count() == 3


def test_a_serving_process_finds_out_when_the_interval_is_over(server: ModelServer, filled: Collection) -> None:
    clock = watched(filled)
    before = filled.search("cat")
    clock.now += RECHECK - 1
    assert filled.search("cat") == before
    clock.now += 1
    assert filled.search("cat") == before, "an unchanged model passes"
    server.become(seed=1)
    clock.now += RECHECK
    for _ in range(2):  # the second search looks again, and is refused again
        with pytest.raises(FingerprintMismatch, match=f"(?s){CHANGED}.*slot 's', looked at again while it serves"):
            filled.search("cat")
    server.become(seed=0)
    server.sparse.expand.clear()
    assert filled.search("cat") == before, "a model that is restored serves again, without a restart"


def test_looking_again_is_one_request_and_none_before_it_is_due(server: ModelServer, filled: Collection) -> None:
    clock = watched(filled)
    server.requests.clear()
    for _ in range(3):
        filled.search("cat")
    assert server.requests == [["cat"]] * 3
    clock.now += RECHECK
    filled.search("cat")
    filled.search("cat")
    assert server.requests[3:] == [list(TEXTS), ["cat"], ["cat"]]


def test_searches_in_many_threads_look_once(server: ModelServer, filled: Collection) -> None:
    clock = watched(filled)
    clock.now += RECHECK
    server.requests.clear()
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda _: filled.search("cat")[0].id, range(24)))
    assert found == ["cat"] * 24
    assert server.requests.count(list(TEXTS)) == 1


def test_threads_that_wait_for_a_look_do_not_ask_an_endpoint_that_is_down_one_after_another(
    server: ModelServer, place: Place
) -> None:
    with opened(server, place) as collection:
        collection.populate(PETS)
        clock = watched(collection)
        clock.now += RECHECK
        server.requests.clear()
        server.longest, server.refusal, server.delay = 0, 500, 0.5
        together = threading.Barrier(8)

        def ask(_: int) -> str:
            together.wait()
            with pytest.raises(RemoteError, match="answered 500") as caught:
                collection.search("cat")
            return str(caught.value)

        with ThreadPoolExecutor(8) as threads:
            assert len(set(threads.map(ask, range(8)))) == 1
        assert len(server.requests) < 4
        server.longest, server.delay = 10**6, 0.0
        assert collection.search("cat")[0].id == "cat"


@pytest.mark.parametrize("after", [130, 150, 199, 300])
def test_populate_stops_and_writes_nothing_of_the_new_model(server: ModelServer, place: Place, after: int) -> None:
    """Each call of 64 documents is four requests at once, so that the change comes in the midst of a call."""
    documents = [Document(f"d{n}", f"document {n} about subject {n % 7}") for n in range(400)]
    small = {**slot(server, "openai"), "batch_size": 16}
    with opened(server, place, populate={"chunk": 256}, slots={"s": small}) as collection:
        collection.populate(documents[:1])
        server.change_after = after
        with pytest.raises(FingerprintMismatch, match=CHANGED) as caught:
            collection.populate(documents)
        assert "acknowledged by the store in this run and are kept" in "".join(caught.value.__notes__)
        points, _ = collection.client.scroll("c", limit=1000, with_vectors=True, with_payload=True)
        assert 1 < len(points) <= 1 + after
        stored = np.array([point.vector["s.1"] for point in points if isinstance(point.vector, dict)], np.float32)
        texts = [f"{point.payload['text']}" for point in points if point.payload]
        expected = FakeDenseEncoder(dimension=32).encode_document(texts)
        np.testing.assert_allclose(stored, expected, atol=1e-5, err_msg="all are of the old model")


def test_after_each_call_for_documents_one_canary_is_sent(server: ModelServer, filled: Collection) -> None:
    watched(filled)
    server.requests.clear()
    filled.populate([Document("owl", "an owl hunts"), Document("ant", "an ant works")])
    assert server.requests == [["an owl hunts", "an ant works"], [TEXTS[0]]]
    assert filled.search("owl")[0].id == "owl"


def test_a_collection_opened_without_verify_is_not_watched(server: ModelServer, place: Place) -> None:
    with opened(server, place) as collection:
        collection.populate(PETS)
    config = parse_config({**place, "collection": "c", "slots": {"s": slot(server, "openai")}})
    with Collection.open(config, verify=False) as unchecked:
        watched(unchecked).now += RECHECK
        server.requests.clear()
        unchecked.search("cat")
        assert server.requests == [["cat"]]


def test_doctor_says_how_alike_a_remote_model_is_and_what_moved(
    server: ModelServer, tmp_path: Path, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # doctor sets it, and later tests of this process must not see it
    with opened(server, place) as collection:
        collection.populate(PETS)
    written = {**place, "collection": "c", "slots": {"s": slot(server, "openai")}}
    (tmp_path / "diptych.yaml").write_text(json.dumps(written))
    good = CliRunner().invoke(app, ["doctor"], obj=Session())
    assert (good.exit_code, "made this collection's vectors (canary likeness 1.0000)" in good.stdout) == (0, True)
    server.become(seed=1)
    bad = CliRunner().invoke(app, ["doctor"], obj=Session())
    assert bad.exit_code == 1
    assert "fail model of s: the encoder no longer makes the vectors it made (canary cosine" in bad.stdout
    assert "changed: queries and documents (below 0.995)" in bad.stdout


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_server_that_refuses_long_texts_is_guarded_by_the_others(
    server: ModelServer, place: Place, status: int
) -> None:
    server.longest, server.refusal = 2000, status
    with opened(server, place) as collection:
        collection.populate(PETS)
        kept = collection.handle.read().live.slots["s"].canaries
        assert kept is not None
        assert [text == "refused" for text in kept.query] == [False] * 8 + [True]
    server.requests.clear()
    with opened(server, place) as again:
        clock = watched(again)
        assert again.search("cat")[0].id == "cat"
        clock.now += RECHECK
        assert again.search("cat")[0].id == "cat"
        assert server.requests == [list(TEXTS[:8])] * 2 + [["cat"], list(TEXTS[:8]), ["cat"]]
        server.become(seed=1)
        clock.now += RECHECK
        with pytest.raises(FingerprintMismatch, match=CHANGED):
            again.search("cat")


@pytest.mark.parametrize("status", [401, 404, 500])
def test_other_answers_of_a_server_are_no_refusal_of_long_texts(server: ModelServer, place: Place, status: int) -> None:
    server.longest, server.refusal = 2000, status
    with opened(server, place) as collection, pytest.raises(RemoteError, match=f"answered {status}"):
        collection.populate(PETS)
