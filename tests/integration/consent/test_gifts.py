"""Hostile collections, exports and models' folders through every door: nothing is sent, run or written."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.types import CallToolResult
from qdrant_client.client_base import QdrantBase
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych.cli import main
from diptych.copying import copy_collection
from diptych.errors import DiptychError
from diptych.metadata.store import raw_metadata
from diptych.stores import open_store
from diptych_serve.agents import mcp_server
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from gifts import KEY, SECRET, Gift, gifts, given, hostile_folders
from json_server import Reply, Request, json_server
from tiny_encoders import tiny_encoder

pytestmark = pytest.mark.filterwarnings("ignore")  # as for users; as errors they would stop what they warn of
Door = Callable[[str], None]
DOCUMENTS = [{"id": "d1", "text": "word1 word2"}, {"id": "d2", "text": "word3 word4"}]


class Refused(Exception):
    """A door's own way to say no."""


def asked(ask: Callable[[Collection], object], opened: Callable[..., Collection] = Collection.open) -> Door:
    def through(store: str) -> None:
        with opened(store, "c") as collection:
            ask(collection)

    return through


def said(*words: str) -> Door:
    def through(store: str) -> None:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--store", store, "--collection", "c"])
        if ended.value.code:
            raise Refused

    return through


def posted(path: str, **options: Any) -> Door:
    def through(store: str) -> None:
        with closing(Served.stored(store, ["c"])) as served:
            answer = TestClient(application(served, **options)).post(path, json={"query": "word1"})
            if answer.status_code >= 400:
                raise Refused(answer.text)

    return through


def called(store: str) -> None:
    async def run(served: Served) -> CallToolResult:
        async with Client(mcp_server(served)) as client:
            return await client.call_tool("search", {"query": "word1"})

    with closing(Served.stored(store, ["c"])) as served:
        answer = asyncio.run(run(served))
    if answer.is_error:
        raise Refused(answer)


def with_langchain(collection: Collection) -> None:
    from diptych_adapters.langchain import DiptychVectorStore

    DiptychVectorStore(collection).similarity_search("word1")


def with_llama_index(collection: Collection) -> None:
    from llama_index.core import VectorStoreIndex

    from diptych_adapters.llama_index import DiptychVectorStore

    found = DiptychVectorStore(collection)
    VectorStoreIndex.from_vector_store(found, embed_model=found.embed_model).as_retriever().retrieve("word1")


def with_haystack(store: str) -> None:
    from diptych_adapters.haystack import DiptychDocumentStore, DiptychRetriever

    found = DiptychDocumentStore(store, "c")
    assert isinstance(found.collection, Collection)
    with found.collection:
        DiptychRetriever(document_store=found).run(query="word1")


def carried(carry: Callable[[QdrantBase, QdrantBase], object]) -> Door:
    """Brings the collection into a store of the user's own, and asks there."""

    def through(store: str) -> None:
        with closing(open_store(store)) as source, closing(open_store("memory:")) as target:
            carry(source, target)
            Collection.open(target, "c").search("word1")

    return through


ASKING: dict[str, Door] = {
    "open": asked(lambda collection: collection.search("word1")),
    "explain": asked(lambda collection: collection.explain("word1")),
    "stored": asked(lambda collection: collection.search("word1"), Collection.stored),
    "command search": said("search", "word1"),
    "command explain": said("search", "word1", "--explain"),
    "serve": posted("/search"),
    "studio": posted("/studio/api/search", extension=studio()),
    "mcp": called,
    "langchain": asked(with_langchain),
    "llama_index": asked(with_llama_index),
    "haystack": with_haystack,
    "copy": carried(lambda source, target: copy_collection(source, "c", target)),
}
OTHERS: dict[str, Door] = {  # which may answer, as long as they do nothing else
    "command info": said("info"),
    "command status": said("status"),
    "populate": asked(lambda collection: collection.populate([{"id": "d3", "text": "word5"}])),
}

EVERY = ("open", "explain", "command search", "serve", "populate")


class Trap:
    """A filled collection, the base of models' folders, a server that counts, and what must stay as it is."""

    def __init__(self, folder: Path, address: str, requests: list[Request]) -> None:
        self.address, self.requests, self.mark = address, requests, folder / "foreign" / "ran"
        self.base, self.foreign, self.store = folder / "base", folder / "foreign", f"edge:{folder / 'store'}"
        tiny_encoder(folder / "bert", layers=1).save(str(self.base))
        self.foreign.mkdir()
        (self.foreign / "own.txt").write_text("kept")
        evil = self.foreign / "model"
        evil.mkdir()
        (evil / "evil.py").write_text(f"open({str(self.mark)!r}, 'w').close()\n")
        module = {"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}
        (evil / "modules.json").write_text(json.dumps([module]))
        auto = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
        (evil / "config.json").write_text(json.dumps({"model_type": "evil", "auto_map": auto}))
        dense = {"adapter": "sentence-transformers", "model": str(self.base)}
        slots = {"dense": dense, "lexical": {"adapter": "bm25"}}
        with Collection.open({"store": self.store, "collection": "c", "slots": slots}) as collection:
            collection.populate(DOCUMENTS)
        with closing(open_store(self.store)) as client:
            self.payload = json.loads(json.dumps(raw_metadata(client, "c")))
        self.before = self.snapshot()

    def snapshot(self) -> dict[str, str]:
        files = [path for path in self.foreign.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}

    def sprung(self) -> list[str]:
        """What a gift has done."""
        done = [*(["sent"] * bool(self.requests)), *(["ran or wrote"] * (self.snapshot() != self.before))]
        self.requests.clear()
        self.mark.unlink(missing_ok=True)
        return done

    def give(self, gift: Gift | None) -> None:
        changed = self.payload if gift is None else given(self.payload, gift)
        with closing(open_store(self.store)) as client:
            client.update_collection("c", metadata=changed)


@pytest.fixture(scope="module")
def trap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trap]:
    requests: list[Request] = []

    def answer(request: Request) -> Reply:
        requests.append(request)
        return Reply({}, status=500)

    with json_server(answer) as address, pytest.MonkeyPatch.context() as patch:
        patch.setenv(KEY, SECRET)
        yield Trap(tmp_path_factory.mktemp("trap"), address, requests)


def outcome(door: Door, store: str) -> str:
    """What the refusal says; errors of another kind are raised."""
    try:
        door(store)
    except (DiptychError, Refused) as error:
        return f"refused: {error}"
    return "answered"


@pytest.mark.parametrize("door", [*ASKING, *OTHERS])
def test_a_door_answers_where_the_collection_asks_for_nothing(trap: Trap, door: str) -> None:
    trap.give(None)
    assert outcome({**ASKING, **OTHERS}[door], trap.store) == "answered"


@pytest.mark.parametrize("door", [*ASKING, *OTHERS])
def test_no_door_obeys_what_a_collection_asks_for(trap: Trap, capsys: pytest.CaptureFixture[str], door: str) -> None:
    place = [*ASKING, *OTHERS].index(door)
    wrong, step = [], 1 if door in EVERY else 3  # the other doors share the gifts among three
    for gift in itertools.islice(gifts(trap.address, trap.foreign / "model"), place % step, None, step):
        trap.give(gift)
        text = outcome({**ASKING, **OTHERS}[door], trap.store) + "".join(capsys.readouterr())
        if trap.sprung() or SECRET in text or (door in ASKING and "consent" not in text):
            wrong.append((gift, text))
    assert wrong == []


LATE, SPARSE = "sentence-transformers-multivector", "sentence-transformers-sparse"
ADAPTERS = ["sentence-transformers", f"{LATE} dense", "static", "fastembed", f"{SPARSE} masked-lm", "cross-encoder"]
KINDS = ["uni-encoder", LATE, SPARSE, "yes-no", "unidec", "transformers-media image"]


@pytest.mark.parametrize("adapter", [*ADAPTERS, *(pytest.param(name, marks=pytest.mark.slow) for name in KINDS)])
def test_a_models_folder_runs_no_code_and_takes_no_memory_without_consent(
    trap: Trap, adapter: str, tmp_path: Path
) -> None:
    wrong, folder = [], tmp_path / "model"
    for name, change in hostile_folders(trap.mark):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(trap.base, folder)
        change(folder)
        try:
            name, _, variant = adapter.partition(" ")
            choice = {"modality" if variant == "image" else "trained_as": variant} if variant else {}
            model: Any = Registry.default().create(name, {"model": str(folder), **choice})
            if hasattr(model, "encode_document"):
                model.encode_document(["word1"])
        except DiptychError:
            pass
        except Exception as error:
            wrong.append((name, repr(error)))
        wrong += [(name, done) for done in trap.sprung()]
    assert wrong == []


def test_a_folder_that_was_exchanged_is_refused_or_answers_at_every_door(trap: Trap, tmp_path: Path) -> None:
    """Whoever may write to the folder of a model that a collection names."""
    wrong, doors, folder = [], itertools.cycle({**ASKING, **OTHERS}.items()), tmp_path / "model"
    trap.give(("slot", "sentence-transformers", {"model": str(folder)}))
    for name, change in hostile_folders(trap.mark):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(trap.base, folder)
        change(folder)
        door, through = next(doors)
        try:
            outcome(through, trap.store)
        except Exception as error:
            wrong.append((door, name, repr(error)))
        wrong += [(door, name, done) for done in trap.sprung()]
    assert wrong == []
