from __future__ import annotations

import gzip
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from qdrant_client import QdrantClient
from qdrant_client.client_base import QdrantBase
from qdrant_client.http.exceptions import UnexpectedResponse

from diptych.errors import CollectionNotFound, PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate import open_source, populate
from diptych.populate.pace import PART as AT_ONCE
from diptych.slots.guard import TEXTS
from diptych.stores import open_store
from named_server import clear
from small_server import Routes, served

Contents = Callable[[QdrantBase], dict[Any, tuple[Any, Any]]]
OpenHandle = Callable[..., CollectionHandle]
SLOTS = {"dense": {"adapter": "fake-dense", "dimension": 4, "similarity": "dot"}}
CORPUS: list[Any] = [{"id": i, "text": f"words of number {i}"} for i in range(40)]


def unavailable() -> Exception:
    return UnexpectedResponse(503, "Service Unavailable", b"", httpx.Headers())


class Flaky(QdrantClient):
    """A store in memory: `failures[i]` is the error of the i-th write, None for success; the last entry holds on."""

    def __init__(self, *failures: Exception | None) -> None:
        super().__init__(":memory:")
        self.failures, self.writes, self.acknowledged = failures, 0, 0

    def upsert(self, collection_name: str, points: Any, *args: Any, **kwargs: Any) -> Any:
        failure = self.failures[min(self.writes, len(self.failures) - 1)]
        self.writes += 1
        if failure is not None:
            raise failure
        result = super().upsert(collection_name, points, *args, **kwargs)
        self.acknowledged += len(points)
        return result


@pytest.fixture
def clean(open_handle: OpenHandle, contents: Contents) -> dict[Any, Any]:
    client = QdrantClient(":memory:")
    populate(open_handle(client, SLOTS), CORPUS)
    found = contents(client)
    client.close()
    return found


def test_when_tries_run_out_the_error_counts_what_is_kept_and_a_new_run_goes_on(
    open_handle: OpenHandle, contents: Contents, clean: dict[Any, Any]
) -> None:
    client = Flaky(None, None, None, unavailable())
    with pytest.raises(PopulateError, match="cannot write to the store") as caught:
        populate(open_handle(client, SLOTS, retries=1), CORPUS)
    assert "503 Service Unavailable" in caught.value.got
    assert caught.value.__notes__ == ["12 documents were acknowledged by the store in this run and are kept"]
    assert client.acknowledged == len(contents(client)) == 12
    client.failures = (None,)
    handle = open_handle(client, SLOTS)
    report = populate(handle, CORPUS)
    assert (report.unchanged, report.new) == (12, 28)
    assert handle.slots["dense"].encoder.encoded == 28 + 2 * len(TEXTS)
    assert contents(client) == clean
    client.close()


def test_the_first_look_at_the_collection_is_tried_again(
    open_handle: OpenHandle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster one of whose nodes has died answers 500 until it has noticed; the look was made once."""
    client = QdrantClient(":memory:")
    populate(open_handle(client, SLOTS), CORPUS[:20])
    handle = open_handle(client, SLOTS, retries=1)
    read, failures = client.get_collection, [UnexpectedResponse(500, "Internal", b"", httpx.Headers())]

    def get_collection(*args: Any, **kwargs: Any) -> Any:
        if failures:
            raise failures.pop()
        return read(*args, **kwargs)

    monkeypatch.setattr(client, "get_collection", get_collection)
    assert populate(handle, CORPUS).new == 20
    assert not failures
    client.close()


def test_a_source_that_breaks_off_keeps_what_was_written(
    memory: QdrantBase, open_handle: OpenHandle, contents: Contents, clean: dict[Any, Any]
) -> None:
    with pytest.raises(PopulateError, match="reading the source failed") as caught:
        populate(open_handle(memory, SLOTS), broken_off(OSError("disk gone"), 29))
    assert caught.value.got == "OSError: disk gone"
    kept = len(contents(memory))
    assert caught.value.__notes__[0].startswith(f"{kept} documents")
    assert populate(open_handle(memory, SLOTS), CORPUS).unchanged == kept
    assert contents(memory) == clean


def test_a_truncated_file_ends_the_run_and_keeps_what_was_written(
    memory: QdrantBase, open_handle: OpenHandle, tmp_path: Path
) -> None:
    lines = "".join(json.dumps({"id": i, "text": f"{i} {random.Random(i).random()}"}) + "\n" for i in range(5000))
    path = tmp_path / "cut.jsonl.gz"
    path.write_bytes(gzip.compress(lines.encode())[:-2000])
    with pytest.raises(PopulateError, match="the compressed file is damaged or was cut off") as caught:
        populate(open_handle(memory, SLOTS, chunk=1024), open_source(path))
    assert caught.value.where == str(path)
    assert "end-of-stream" in caught.value.got
    assert memory.count("c").count > 1000


def test_an_interrupt_leaves_threads_and_collection_in_order(
    memory: QdrantBase, open_handle: OpenHandle, contents: Contents, clean: dict[Any, Any]
) -> None:
    before = threading.enumerate()
    with pytest.raises(KeyboardInterrupt):
        populate(open_handle(memory, SLOTS), broken_off(KeyboardInterrupt(), 29))
    assert set(threading.enumerate()) <= set(before)  # of which those of other tests may have ended meanwhile
    assert contents(memory).items() <= clean.items()
    assert populate(open_handle(memory, SLOTS), CORPUS).read == 40
    assert contents(memory) == clean


def test_the_next_piece_is_encoded_while_one_is_uploaded(open_handle: OpenHandle, tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"

    class Waiting(QdrantClient):
        """Acknowledges a write only once the encoder has begun another piece, until none is left."""

        def upsert(self, collection_name: str, points: Any, *args: Any, **kwargs: Any) -> Any:
            written = self.count("c").count + len(points)
            while written < len(CORPUS) and len(encoded(log)) <= written:
                time.sleep(0.005)
            return super().upsert(collection_name, points, *args, **kwargs)

    client = Waiting(":memory:")
    slots = {"dense": {"adapter": "fake-dense", "log": str(log), "delay": 0.005}}
    assert populate(open_handle(client, slots), CORPUS).new == 40
    client.close()


def test_every_slot_encodes_in_a_thread_of_its_own(memory: QdrantBase, open_handle: OpenHandle) -> None:
    slots = {name: {"adapter": "fake-dense", "dimension": 4} for name in ("one", "two")}
    handle = open_handle(memory, slots)
    threads: dict[str, set[str]] = {}
    for name, slot in handle.slots.items():
        _note_threads(slot.encoder, threads.setdefault(name, set()))
    populate(handle, CORPUS)
    assert threads["one"] - {threading.current_thread().name} == {"encode-one.1_0"}
    assert threads["two"] - {threading.current_thread().name} == {"encode-two.1_0"}


@pytest.mark.parametrize("chunk", [1, 2, 5, 16])
def test_never_more_than_a_chunk_is_encoded_and_not_acknowledged(
    open_handle: OpenHandle, tmp_path: Path, chunk: int
) -> None:
    log = tmp_path / "calls.jsonl"
    ahead: list[int] = []

    class Slow(QdrantClient):
        def upsert(self, collection_name: str, points: Any, *args: Any, **kwargs: Any) -> Any:
            time.sleep(0.02)
            ahead.append(len(encoded(log)) - self.count("c").count)
            return super().upsert(collection_name, points, *args, **kwargs)

    client = Slow(":memory:")
    slots = {"dense": {"adapter": "fake-dense", "dimension": 4, "log": str(log)}}
    populate(open_handle(client, slots, chunk=chunk), CORPUS)
    assert max(ahead) <= chunk
    assert max(ahead) >= min(chunk, 2)
    client.close()


def broken_off(error: BaseException, after: int) -> Iterator[Any]:
    yield from CORPUS[:after]
    raise error


def encoded(log: Path) -> list[str]:
    """The documents a fake encoder with this log has encoded, without the canaries."""
    calls = [json.loads(line) for line in log.read_text().splitlines()]
    return [text for call in calls if call["side"] == "document" for text in call["inputs"] if text not in TEXTS]


def _note_threads(encoder: Any, names: set[str]) -> None:
    encode = encoder.encode_document

    def noting(inputs: Any) -> Any:
        names.add(threading.current_thread().name)
        return encode(inputs)

    encoder.encode_document = noting


def test_a_collection_that_was_deleted_since_it_was_opened_is_not_made_anew(
    client: QdrantBase, open_handle: OpenHandle
) -> None:
    handle = open_handle(client)
    populate(handle, CORPUS[:3])
    clear(client, "c")
    expected = r"deleted since it was opened\n  where: collection 'c'\n  do: open it again"
    with pytest.raises(CollectionNotFound, match=expected):
        populate(handle, CORPUS[:3])
    assert populate(open_handle(client), CORPUS[:3]).new == 3


class Refusing(Routes):
    """A server that takes no point of some documents."""

    def answer(self, method: str, path: str, body: Any, query: Any) -> Any:
        """As any, but a request that holds one of them is refused whole."""
        points = body.get("points") or [] if method == "PUT" and isinstance(body, dict) else []
        if any("bad" in point["payload"]["text"] for point in points):
            raise ValueError("Wrong input: bad words")
        return super().answer(method, path, body, query)


def test_a_server_gets_a_piece_in_several_requests_and_refused_documents_are_found_in_each(
    open_handle: OpenHandle, contents: Contents
) -> None:
    bad = {5, 200, 201, 511, 599}
    corpus = [{"id": str(i), "text": f"{'bad' if i in bad else 'good'} words of number {i}"} for i in range(600)]
    with served(Refusing()) as server, closing(open_store(server.url)) as client:
        report = populate(open_handle(client, SLOTS, chunk=1024), corpus)
    sent = [len(body["points"]) for method, _, body in server.requests if method == "PUT" and "points" in body]
    assert (report.new, report.set_aside) == (595, 5)
    assert sorted(int(entry.id) for entry in report.examples) == sorted(bad)
    assert len(contents(server.store)) == sum(sent) == 595
    assert max(sent) <= AT_ONCE
