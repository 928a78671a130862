"""Bad input of every kind: each says what is wrong, where, and what to do. One row a case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models

from diptych import Collection, Document, errors
from diptych.config import parse_config
from diptych.evaluate import Qrels, evaluate, read_queries
from diptych.hookspecs import hookimpl
from diptych.populate import open_source
from diptych.registry import Registry
from diptych.search import Pipeline, Retrieve, Rrf
from diptych.specs import AdapterSpec
from diptych.stores import open_store
from diptych.types import Run
from diptych_edge import SharedEdgeClient
from diptych_edge.engine.folders import PathLock


@dataclass
class World:
    """What a case needs: a folder, the fakes, a filled collection on the embedded engine."""

    folder: Path
    registry: Registry
    collection: Collection

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path

    def config(self, **changes: Any) -> Any:
        slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse"}}
        return parse_config({"store": "memory:", "collection": "c", "slots": slots, **changes})

    def slot(self, **options: Any) -> Collection:
        return Collection.open(self.config(slots={"dense": options}), registry=self.registry)

    def plugin(self, *specs: Any) -> Registry:
        class Plugin:
            @hookimpl
            def diptych_register_adapters(self) -> list[Any]:
                return list(specs)

        return Registry(Plugin(), installed=False)

    def make(self, **changes: Any) -> Any:
        return self.plugin(spec(**changes)).create("x")

    def encode(self, text: str, **options: Any) -> Any:
        return self.slot(adapter="fake-dense", **options).handle.slot("dense").encode("query", [text])

    def search(self, query: Any = "a cat", **options: Any) -> Any:
        return self.collection.search(query, **options)

    @property
    def edge(self) -> SharedEdgeClient:
        assert isinstance(self.collection.client, SharedEdgeClient)
        return self.collection.client

    def locked(self) -> Any:
        """A store whose lock something else holds that does not answer."""
        (self.folder / "locked").mkdir()
        lock = PathLock(self.folder / "locked")
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("diptych_edge.share.client.LONG", 0.2)  # a minute until a holder has started
                return open_store(f"edge:{self.folder}/locked")
        finally:
            lock.release()

    def upsert(self, vector: Any) -> Any:
        return self.edge.upsert("c", [models.PointStruct(id=1, vector=vector, payload={})])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, fakes: Registry) -> Any:
    folder = tmp_path_factory.mktemp("world")
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse"}}
    config = parse_config({"store": f"edge:{folder}/store", "collection": "c", "slots": slots})
    with Collection.open(config, registry=fakes) as collection:
        collection.populate([Document("a", "a cat sat"), Document("b", "a dog ran")])
        yield World(folder, fakes, collection)


def spec(**changes: Any) -> AdapterSpec:
    return AdapterSpec(**{"name": "x", "kind": "dense", "factory": "math:floor", "summary": "", **changes})


def exact(slot: str) -> Pipeline:
    return Pipeline((Retrieve(slot, 10),))


E = errors
HEADER = "query-id\tcorpus-id\tscore\n"
QRELS = Qrels({"q": {"d": 1}})
TWICE = [("d", 2.0), ("d", 1.0)]
Case = tuple[str, Callable[[World], Any], type[E.DiptychError], str]
CASES: list[Case] = [
    # config
    ("unknown key", lambda w: w.config(serach={}), E.ConfigError, r"(?s)serach.*did you mean.*search"),
    ("unknown key in a section", lambda w: w.config(search={"limt": 3}), E.ConfigError, r"(?s)limt.*limit"),
    ("no slots", lambda w: w.config(slots={}), E.ConfigError, "slots"),
    ("no collection name", lambda w: w.config(collection=""), E.ConfigError, "collection"),
    ("limit of zero", lambda w: w.config(search={"limit": 0}), E.ConfigError, "limit"),
    ("unknown fusion", lambda w: w.config(search={"fuse": {"kind": "sum"}}), E.ConfigError, r"(?s)fuse.*rrf"),
    ("unknown slot", lambda w: w.config(search={"retrieve": {"densee": 9}}), E.ConfigError, r"(?s)densee.*dense"),
    # stores
    ("unknown scheme", lambda w: open_store("ftp://x"), E.StoreURLError, "edge:PATH"),
    ("dead server", lambda w: open_store("http://127.0.0.1:9", timeout=1), E.StoreUnavailable, "does not answer"),
    ("unset variable", lambda w: open_store("http://${DIPTYCH_NONE}"), E.ConfigError, "DIPTYCH_NONE is not set"),
    ("store in use", lambda w: w.locked(), E.StoreLocked, "open elsewhere"),
    ("no collection", lambda w: Collection.open(w.edge, "d", registry=w.registry), E.CollectionNotFound, "'d'"),
    ("no name", lambda w: Collection.open(w.edge, registry=w.registry), E.CollectionError, "no collection is named"),
    ("wrong length", lambda w: w.upsert({"dense.1": [1.0, 2.0]}), E.DiptychError, "64 numbers"),
    ("unknown vector", lambda w: w.upsert({"dense.7": [1.0]}), E.DiptychError, r"dense\.7"),
    ("cluster call", lambda w: w.edge.list_shard_keys("c"), E.StoreUnsupported, "http"),
    # adapters
    ("unknown adapter", lambda w: w.slot(adapter="fake-dens"), E.ConfigError, r"(?s)fake-dens.*fake-dense"),
    ("unknown option", lambda w: w.slot(adapter="fake-dense", seeed=1), E.ConfigError, r"(?s)seeed.*seed"),
    ("a reranker as slot", lambda w: w.slot(adapter="fake-reranker"), E.DiptychError, "reranker"),
    ("missing extra", lambda w: w.make(requires=("no_such",), extra="p[x]"), E.MissingExtra, r"p\[x\]"),
    ("no contract", lambda w: w.make(factory="collections:OrderedDict"), E.AdapterFactoryError, "DenseEncoder"),
    ("failing factory", lambda w: w.make(), E.AdapterFactoryError, "TypeError"),
    ("no such factory", lambda w: w.make(factory="math:nope"), E.AdapterFactoryError, "math:nope"),
    ("name taken twice", lambda w: w.plugin(spec(), spec()), E.DuplicateAdapter, "'x'"),
    ("no spec", lambda w: w.plugin("x"), E.HookError, "AdapterSpec"),
    ("unknown kind", lambda w: spec(kind="desne"), E.RegistryError, "dense"),
    # documents
    ("null id", lambda w: Document.from_mapping({"id": None, "text": "x"}), E.DocumentError, "no usable id"),
    ("no text", lambda w: Document.from_mapping({"id": "x"}), E.DocumentError, "document has no text"),
    ("empty", lambda w: Document("x", " ").checked(), E.DocumentError, "empty document"),
    ("no such source", lambda w: open_source(w.folder / "none.jsonl"), E.DiptychError, r"none\.jsonl"),
    # search
    ("query is not text", lambda w: w.search(7), E.SearchError, "7|int"),
    ("empty query", lambda w: w.search(" "), E.SearchError, "empty"),
    ("negative offset", lambda w: w.search(offset=-1), E.SearchError, "offset"),
    ("limit below one", lambda w: w.search(limit=0), E.SearchError, "limit"),
    ("filter is no filter", lambda w: w.search(filter={"must": 1}), E.SearchError, "filter is not a Qdrant filter"),
    ("slot that is not there", lambda w: w.search(pipeline=exact("late")), E.DiptychError, r"(?s)late.*dense"),
    (
        "weight of no slot",
        lambda _: Retrieve("dense") + Retrieve("lexical") >> Rrf(weights={"x": 1}),
        E.SearchError,
        "x",
    ),
    ("no answer to NaN", lambda w: w.encode("cat", nan_word="cat"), E.ContractError, "NaN"),
    # evaluation
    ("no number", lambda w: Qrels.read(w.write("q.tsv", HEADER + "q\td\tx\n")), E.EvaluationError, "q.tsv"),
    ("no judgements", lambda w: Qrels.read(w.write("e.tsv", "")), E.EvaluationError, "e.tsv"),
    ("no queries", lambda w: read_queries(w.write("q.jsonl", "{}\n")), E.EvaluationError, "q.jsonl"),
    ("unknown measure", lambda w: evaluate(Run("r", {}), QRELS, ("nDGC@10",)), E.EvaluationError, "nDCG"),
    ("document twice", lambda w: evaluate(Run("r", {"q": TWICE}), QRELS), E.EvaluationError, "'d'"),
]


@pytest.mark.parametrize(("case", "error", "message"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_bad_input_is_explained(
    world: World, case: Callable[[World], Any], error: type[errors.DiptychError], message: str
) -> None:
    with pytest.raises(error, match=message):
        case(world)
