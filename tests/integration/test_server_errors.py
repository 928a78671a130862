"""Whatever a server answers in place of a result, every public call says it: the status and the server's own sentence.

The collection is in memory until the server takes over, which then refuses everything.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from qdrant_client import QdrantClient, models
from typer.testing import CliRunner

import named_server
from diptych import Collection, Registry
from diptych.adopt import adopt
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.collection.verify import verify
from diptych.config import Config
from diptych.copying import copy_collection
from diptych.errors import DiptychError
from diptych.handle.collection_handle import CollectionHandle
from diptych.search import store_calls
from diptych.stores import place_of
from diptych.stores.server_client import ServerClient
from diptych.swap import ApplyOptions
from faulty_server import answer, faulty_server
from grpc_server import grpc_server, refuse

Refusing: TypeAlias = list[tuple[str, ServerClient, str]]
SENTENCE = "Wrong input: the test says no"
DOCUMENTS = [{"id": str(n), "text": f"words of number {n}", "kind": n % 2} for n in range(6)]
STATUSES = {
    "400 Bad Request": "INVALID_ARGUMENT",
    "403 Forbidden": "PERMISSION_DENIED",
    "500 Internal Server Error": "INTERNAL",
    "503 Service Unavailable": "UNAVAILABLE",
}


def config(seed: int = 0) -> Config:
    slots = {"dense": {"adapter": "fake-dense", "dimension": 8, "seed": seed}}
    return Config.model_validate({"store": "memory:", "collection": "c", "slots": slots, "populate": {"retries": 0}})


class Store:
    """A store in memory that works while `server` is None: else that is asked, once `left` calls have been made."""

    def __init__(self) -> None:
        self._working, self.server, self.left = QdrantClient(":memory:"), None, 0

    def __getattr__(self, name: str) -> Any:
        works = self.server is None or self.left > 0
        self.left -= 1
        return getattr(self._working if works else self.server, name)


CALLS: dict[str, Callable[[Collection], Any]] = {
    "search": lambda c: c.search("words"),
    "search, not blocking": lambda c: asyncio.run(c.asearch("words")),
    "search_batch": lambda c: c.search_batch(["words", "number"]),
    "search_groups": lambda c: c.search_groups("words", group_by="kind"),
    "like": lambda c: c.search("words", like=["1"]),
    "scores": lambda c: c.scores(["words"], [["1"]], slot="dense"),
    "explain": lambda c: c.explain("words"),
    "count": lambda c: c.count(),
    "get": lambda c: c.get(["1"]),
    "documents": lambda c: list(c.documents()),
    "delete": lambda c: c.delete(["1"]),
    "populate": lambda c: c.populate(DOCUMENTS),
    "populate, one new": lambda c: c.populate([{"id": "new", "text": "new"}]),
    "synchronise": lambda c: c.populate(DOCUMENTS[:5], sync=True),
    "plan": lambda c: c.plan(config(1)),
    "apply": lambda c: c.apply(config(1), ApplyOptions(gate=False)),
    "rollback": lambda c: c.rollback(),
    "finish": lambda c: c.finish(),
    "status": lambda c: c.status(),
    "info": lambda c: c.info(),
    "verify": lambda c: verify(c.handle),
    "open": lambda c: Collection.open(c.client, "c", registry=c.handle.registry),
    "stored": lambda c: Collection.stored(c.client, "c", registry=c.handle.registry),
    "adopt": lambda c: adopt(c.client, "c", config(), registry=c.handle.registry),
    "copy from it": lambda c: copy_collection(c.client, "c", QdrantClient(":memory:"), retries=0),
    "copy to it": lambda c: copy_collection(filled(c.handle.registry).client, "c", c.client, "d", retries=0),
    "warm": lambda c: c.warm(),
}


def filled(registry: Registry) -> Collection:
    client: Any = Store()
    collection = Collection(CollectionHandle(client, "c", config(), registry))
    assert collection.populate(DOCUMENTS).new == len(DOCUMENTS)
    return collection


@pytest.fixture(autouse=True)
def _no_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store_calls, "PAUSES", ())


@pytest.fixture(scope="module", params=["http", "grpc"])
def refusing(request: pytest.FixtureRequest) -> Iterator[Refusing]:
    """Four servers: their addresses, their clients, and what is to be read of the answers of each."""
    with ExitStack() as stack:
        servers = dict[str, str]()
        for over_http, over_grpc in STATUSES.items():
            if request.param == "grpc":
                servers[stack.enter_context(grpc_server(refuse(over_grpc, SENTENCE)))] = f"{over_grpc}: {SENTENCE}"
            else:
                server = faulty_server(answer(over_http, {"status": {"error": SENTENCE}, "time": 0.0}))
                servers[stack.enter_context(server)] = f"{over_http}: {SENTENCE}"
        clients = [stack.enter_context(closing(ServerClient(timeout=60, **place_of(url)))) for url in servers]
        yield list(zip(servers, clients, servers.values(), strict=True))


@pytest.fixture(scope="module")
def collection(fakes: Registry) -> Collection:
    """Six documents in a store that a server can take the place of."""
    return filled(fakes)


@pytest.mark.parametrize("call", list(CALLS))
def test_every_call_says_the_status_and_the_servers_own_sentence(
    refusing: Refusing, collection: Collection, call: str
) -> None:
    store: Any = collection.client
    for _, store.server, said in refusing:
        with pytest.raises(DiptychError) as caught:
            CALLS[call](collection)
        store.server = None
        assert said in str(caught.value)
    assert collection.count() == len(DOCUMENTS)


def test_a_populate_says_them_at_whichever_call_they_begin(refusing: Refusing, fakes: Registry) -> None:
    collection = filled(fakes)
    store: Any = collection.client
    _, store.server, sentence = refusing[0]
    said, done = list[str](), False
    while not done:
        store.left = len(said)
        try:
            collection.populate(DOCUMENTS)
            done = True
        except DiptychError as error:
            said.append(str(error))
    assert len(said) > 5
    assert all(sentence in text for text in said)


@pytest.mark.parametrize("command", ["doctor", "search words", "status", "info --all", "populate documents.jsonl"])
def test_every_command_says_them(refusing: Refusing, fakes: Registry, tmp_path: Path, command: str) -> None:
    (tmp_path / "documents.jsonl").write_text("\n".join(map(json.dumps, DOCUMENTS)), "utf-8")
    for url, _, said in refusing:
        written = config().model_copy(update={"store": url}).model_dump_json(exclude_none=True)
        (tmp_path / "diptych.yaml").write_text(written, "utf-8")
        found = CliRunner().invoke(app, command.split(), obj=Session(fakes))
        assert found.exit_code == 1
        assert said in " ".join(found.output.split())


# A real server refuses these of a collection in strict mode.
STRICT = models.StrictModeConfig(
    enabled=True, max_query_limit=2, max_points_count=len(DOCUMENTS), unindexed_filtering_retrieve=False
)
REFUSED: dict[str, Callable[[Collection], Any]] = {
    **{call: CALLS[call] for call in ("search", "search_batch", "search_groups", "like", "explain")},
    **{call: CALLS[call] for call in ("documents", "populate, one new", "verify", "copy from it")},
    "search, not blocking": CALLS["search, not blocking"],
    "count": lambda c: c.count(where={"kind": 1}),
    "filter": lambda c: c.search("words", where={"kind": 1}, limit=1),
    "apply": CALLS["apply"],  # the last, since it leaves a swap under way
}


@pytest.fixture(scope="module")
def strict(fakes: Registry) -> Iterator[Collection]:
    """The documents on the server that DIPTYCH_TEST_SERVER names, in strict mode."""
    with named_server.emptied("c") as place:
        wanted = Config.model_validate({**config().model_dump(exclude={"store"}), **place})
        with Collection.open(wanted, registry=fakes) as collection:
            assert collection.populate(DOCUMENTS).new == len(DOCUMENTS)
            collection.client.update_collection("c", strict_mode_config=STRICT)
            yield collection


@pytest.mark.parametrize("call", list(REFUSED))
def test_every_call_says_what_a_real_server_says(strict: Collection, call: str) -> None:
    with pytest.raises(DiptychError) as caught:
        REFUSED[call](strict)
    said = str(caught.value)
    assert re.search(r"got: (400 Bad Request|INVALID_ARGUMENT): .*(Limit|limit|Index required|maximum)", said), said


def test_doctor_says_that_a_real_server_refuses_the_key(fakes: Registry, tmp_path: Path) -> None:
    with named_server.emptied("c") as place:
        if "api_key" not in place:
            pytest.skip("this server wants no key")
        written = {**config().model_dump(mode="json", exclude_none=True), **place, "api_key": "another"}
        (tmp_path / "diptych.yaml").write_text(json.dumps(written), "utf-8")
        found = " ".join(CliRunner().invoke(app, ["doctor"], obj=Session(fakes)).output.split())
    assert re.search("refuses the key.* (401 Unauthorized|403 Forbidden|UNAUTHENTICATED|PERMISSION_DENIED): ", found)
