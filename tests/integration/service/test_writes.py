"""Documents that clients bring in, where the service allows it."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych_serve.service.access import Limits
from diptych_serve.service.admission import Refused
from diptych_serve.service.answers import populated
from diptych_serve.service.application import application
from diptych_serve.service.context import Writes
from diptych_serve.service.served import Served
from serving import ANIMALS, animals, served, until

LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def collection(tmp_path: Path, fakes: Registry) -> Collection:
    """Closed by the service that it is served by."""
    return animals(tmp_path, fakes)


@pytest.fixture
def client(collection: Collection, fakes: Registry) -> Iterator[httpx.Client]:
    app = application(Served([collection], registry=fakes), writes=True, limits=Limits(upload=100_000))
    with served(app) as url, httpx.Client(base_url=url, timeout=60) as made:
        yield made


def put(client: httpx.Client, *documents: Any, **further: Any) -> Any:
    answer = client.put("/documents", json={"documents": documents, **further})
    assert answer.status_code == 200, answer.text
    return answer.json()


def populate(client: httpx.Client, rows: dict[str, str], **query: Any) -> httpx.Response:
    lines = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in rows.items())
    return client.post("/populate", content=lines.encode(), params=query, headers=LINES)


def found(client: httpx.Client, query: str) -> list[str]:
    answer = client.post("/search", json={"query": query, "limit": 5}).json()
    return [hit["id"] for hit in answer["results"][0]["hits"]]


def test_documents_that_are_put_are_found_and_known_ones_are_replaced(client: httpx.Client) -> None:
    report = put(client, {"id": "ape", "text": "the ape eats fruit", "title": "Ape", "letter": "a"})
    assert (report["new"], report["changed"], report["collection"]) == (1, 0, "animals")
    assert found(client, "ape fruit")[0] == "ape"
    report = put(
        client, {"id": "ape", "text": "the ape eats figs"}, {"id": "cat", "text": ANIMALS["cat"], "letter": "c"}
    )
    assert (report["new"], report["changed"], report["unchanged"]) == (0, 1, 1)


def test_a_document_that_cannot_be_indexed_is_set_aside_with_the_reason_and_the_others_come_in(
    client: httpx.Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = sorted(path.name for path in Path.cwd().iterdir())
    report = put(client, {"id": "ape", "text": "an ape"}, {"id": "gnu"}, {"text": "no id"}, {"id": "yak", "text": 5})
    assert (report["read"], report["new"], report["set_aside"]) == (4, 1, 3)
    assert not [record for record in caplog.records if "rejected" in record.getMessage()]  # no log of users' texts
    assert report["examples"][0]["id"] == "gnu"
    assert "text" in report["examples"][0]["reason"]
    assert sorted(path.name for path in Path.cwd().iterdir()) == before


def test_a_dry_run_counts_and_writes_nothing(client: httpx.Client, collection: Collection) -> None:
    report = put(client, {"id": "ape", "text": "an ape"}, dry_run=True)
    assert (report["new"], report["dry_run"], collection.count()) == (1, True, 4)
    answer = populate(client, {"cat": ANIMALS["cat"]}, sync="true", dry_run="true", yes="true").json()
    assert (answer["deleted"], answer["dry_run"], collection.count()) == (3, True, 4)


def test_json_lines_of_any_number_come_in(client: httpx.Client, collection: Collection) -> None:
    report = populate(client, {str(n): f"text {n}" for n in range(500)}).json()
    assert (report["read"], report["new"], collection.count()) == (500, 500, 504)
    assert populate(client, {str(n): f"text {n}" for n in range(500)}).json()["unchanged"] == 500


def test_a_sync_that_would_delete_too_many_is_refused_unless_it_is_confirmed(
    client: httpx.Client, collection: Collection
) -> None:
    refused = populate(client, {"cat": ANIMALS["cat"]}, sync="true")
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "sync_refused")
    assert collection.count() == 4
    report = populate(client, {"cat": ANIMALS["cat"]}, sync="true", yes="true").json()
    assert (report["deleted"], collection.count()) == (3, 1)


def test_lines_that_are_no_documents_are_set_aside_with_their_place(client: httpx.Client) -> None:
    content = b'{"id": "ape", "text": "an ape"}\nnot json\n[1]\n{"id": "gnu", "text": "\\ud800"}\n'
    report = client.post("/populate", content=content, headers=LINES).json()
    assert (report["read"], report["new"], report["set_aside"]) == (4, 1, 3)
    assert [one["id"] for one in report["examples"]][:2] == ["request.jsonl:2", "request.jsonl:3"]


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("PUT", "/documents", b'{"documents": []}', {"Content-Type": "application/json"}, 400),
        ("PUT", "/documents", b'{"documents": [{}], "sync": true}', {"Content-Type": "application/json"}, 400),
        ("PUT", "/documents", b'{"documents": [7]}', {"Content-Type": "application/json"}, 400),
        ("PUT", "/documents", b"{}", {"Content-Type": "text/plain"}, 415),
        ("POST", "/populate", b"{}", {"Content-Type": "text/plain"}, 415),
        ("POST", "/populate", b"{}", {"Content-Type": "application/json"}, 415),
        ("POST", "/populate?sinc=true", b"{}", LINES, 400),
        ("POST", "/populate?sync=perhaps", b"{}", LINES, 400),
        ("POST", "/populate?collection=plants", b"{}", LINES, 404),
        ("POST", "/populate", b"[{}]", LINES, 400),
        ("POST", "/populate", b"x" * 200_000, LINES, 413),
    ],
)
def test_what_is_no_such_request_is_refused(
    client: httpx.Client, method: str, path: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    answer = client.request(method, path, content=content, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


def test_without_leave_nothing_can_be_written(collection: Collection, fakes: Registry) -> None:
    with served(application(Served([collection], registry=fakes))) as url:
        assert httpx.put(f"{url}/documents", json={"documents": [{"id": "a", "text": "b"}]}).status_code == 404
        assert httpx.post(f"{url}/populate", content=b"{}", headers=LINES).status_code == 404
        for method, path, option in (
            ("PUT", "/documents", "diptych serve --allow-writes"),
            ("POST", "/populate", "diptych serve --allow-writes"),
            ("GET", "/docs", "diptych studio"),
            ("GET", "/studio/", "diptych studio"),
        ):
            answer = httpx.request(method, f"{url}{path}")
            message = answer.json()["error"]["message"]
            assert (answer.status_code, message.partition("\n")[0]) == (404, "this route is switched off")
            assert f"do: switch it on by {option}, in Python application(" in message
        assert httpx.get(f"{url}/document").json()["error"]["message"].startswith("Not Found\n")
        assert "/populate" not in httpx.get(f"{url}/openapi.json").json()["paths"]


def test_a_collection_that_is_not_there_yet_is_ready_for_its_first_documents(tmp_path: Path, fakes: Registry) -> None:
    config = {"store": f"edge:{tmp_path / 'new'}", "collection": "new", "slots": {"dense": {"adapter": "fake-dense"}}}
    opened = Collection.open(parse_config(config), registry=fakes)
    with served(application(Served([opened], registry=fakes), writes=True)) as url:
        until(lambda: httpx.get(f"{url}/readyz").status_code == 200)
        with httpx.Client(base_url=url, timeout=60) as client:
            assert put(client, {"id": "a", "text": "an ape"})["new"] == 1
            assert found(client, "ape") == ["a"]


def slowly(seconds: float, pauses: float) -> Iterator[bytes]:
    """A document that comes byte by byte."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield b" "
        time.sleep(pauses)


def test_an_upload_that_is_too_slow_is_ended(collection: Collection, fakes: Registry) -> None:
    limits = Limits(body_seconds=2.0)
    with served(application(Served([collection], registry=fakes), writes=True, limits=limits)) as url:
        answer = httpx.post(f"{url}/populate", content=slowly(60, 0.2), headers=LINES, timeout=60)
        assert (answer.status_code, "too slowly" in answer.json()["error"]["message"]) == (408, True)


def test_writes_beyond_the_room_are_refused_before_they_are_received(collection: Collection, fakes: Registry) -> None:
    app = application(Served([collection], registry=fakes), writes=True)
    with served(app) as url, ExitStack() as held:
        for _ in range(17):
            held.enter_context(app.state.serving.writes.room())
        assert httpx.post(f"{url}/populate", content=b"{}", headers=LINES, timeout=60).status_code == 429
        held.close()
        assert httpx.post(f"{url}/populate", content=b'{"id": "a", "text": "b"}', headers=LINES).status_code == 200


def test_a_write_under_way_ends_before_the_service_closes_its_collection(
    collection: Collection, fakes: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    writes, begun, seen = Writes(), threading.Event(), []

    def rows() -> Iterator[dict[str, str]]:
        for number in range(100_000):
            begun.set()
            seen.append(number)
            time.sleep(0.01)
            yield {"id": str(number), "text": f"text {number}"}

    async def run() -> None:
        work = asyncio.create_task(writes.run(lambda: populated(collection, writes.until_stopped(rows()))))
        await asyncio.to_thread(begun.wait, 60)
        await asyncio.to_thread(writes.stop)
        with pytest.raises(Refused, match="the service ends"):
            await work
        with pytest.raises(Refused, match="the service ends"):
            await writes.run(lambda: None)

    asyncio.run(run())
    assert 0 < len(seen) < 100_000
    collection.count()  # it is open, and nobody writes to it any more
    collection.close()
