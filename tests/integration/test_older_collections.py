"""A collection that an earlier release wrote opens, answers as it did, and goes on.

Release 0.4.0 wrote `tests/data/collection-0.4.0.tar.gz` with the config below: 40 documents of made-up words, then a
swap from seed 0 to seed 1, whose old vectors are kept. Its `answers.json` has hits before and after.
`collection-old-names.tar.xz` holds twelve of the documents in a slot of the adapter `ngrams`, which is a variant of
`bm25` now; commit 6dcfa484 wrote it.
"""

from __future__ import annotations

import json
import tarfile
import warnings
from pathlib import Path
from typing import Any

import pytest

import diptych_adapters.hooks
from diptych import Collection, Registry
from diptych.config import Config, parse_config
from diptych.config.stages import Dbsf, Rrf
from diptych.swap import ApplyOptions
from diptych.testing import fakes_plugin

DATA = Path(__file__).parents[1] / "data"
REGISTRY = Registry(fakes_plugin, diptych_adapters.hooks, installed=False)
DOCUMENTS = [
    {
        "id": f"d{n}" if n % 2 else f"{n}",
        "title": f"Title {n}",
        "text": f"word{n} word{n % 7} thing{n % 3}",
        "year": 1900 + n,
    }
    for n in range(40)
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return unpacked("collection-0.4.0.tar.gz", tmp_path)


def unpacked(archive: str, folder: Path) -> Path:
    with tarfile.open(DATA / archive) as packed:
        packed.extractall(folder, filter="data")
    return folder


def config(folder: Path, seed: int) -> Config:
    return parse_config(
        {
            "store": f"edge:{folder / 'qdrant'}",
            "collection": "words",
            "cache": {"enabled": False},
            "slots": {
                "dense": {"adapter": "fake-dense", "dimension": 16, "seed": seed},
                "lexical": {"adapter": "bm25"},
            },
            "search": {"retrieve": {"dense": 20, "lexical": 20}, "fuse": {"kind": "rrf"}, "limit": 5},
        }
    )


def test_a_config_without_a_fusion_searches_an_older_collection_as_before_the_default_changed(folder: Path) -> None:
    known = json.loads((folder / "answers.json").read_text())
    silent = config(folder, seed=1).model_dump(mode="json", exclude_unset=True)
    del silent["search"]["fuse"]
    with Collection.open(parse_config(silent), registry=REGISTRY) as collection:
        assert collection.handle.search_config.fuse == Rrf()
        assert answers(collection, known["queries"]) == known["after"]
        assert not collection.plan(parse_config(silent), sample=0).search
        assert collection.apply(parse_config(silent)).outcome in ("nothing to do", "filled gaps")
        assert (collection.handle.read().search or {})["fuse"]["kind"] == "rrf"
        alone = parse_config({**silent, "search": {"retrieve": {"lexical": 20}, "limit": 5}})
        assert collection.apply(alone, ApplyOptions(gate=False)).outcome == "changed settings"
        assert not collection.plan(alone, sample=0).search, "one slot fuses nothing, so no fusion differs"
    with Collection.open(parse_config({**silent, "store": "memory:"}), registry=REGISTRY) as new:
        new.populate(DOCUMENTS[:19])  # more would show that the fake reads no order of words
        assert new.handle.search_config.fuse == Dbsf()
        assert (new.handle.read().search or {})["fuse"]["kind"] == "dbsf"


def answers(collection: Collection, queries: list[str]) -> list[list[list[Any]]]:
    return [[[hit.id, round(hit.score, 5)] for hit in collection.search(query)] for query in queries]


def test_a_collection_of_an_earlier_release_answers_and_is_rolled_back(folder: Path) -> None:
    known = json.loads((folder / "answers.json").read_text())
    with Collection.open(config(folder, seed=1), registry=REGISTRY) as collection:
        assert collection.count() == 40
        assert answers(collection, known["queries"]) == known["after"]
        report = collection.populate(DOCUMENTS)
        assert (report.unchanged, report.new, report.changed) == (40, 0, 0)
        collection.rollback()
    with Collection.open(config(folder, seed=0), registry=REGISTRY) as collection:
        assert answers(collection, known["queries"]) == known["before"]
        collection.finish()
        assert collection.populate([{"id": "new", "text": "word3 fresh"}]).new == 1
        assert collection.count() == 41


OLD, NEW = ({"adapter": "ngrams"}, "keep"), ({"adapter": "bm25", "terms": "ngrams"}, "numerics")


@pytest.mark.parametrize(("letters", "action"), [OLD, NEW], ids=["as it was written", "as it is written now"])
def test_an_adapter_under_its_old_name_answers_as_before_and_encodes_nothing_again(
    letters: dict[str, str], action: str, tmp_path: Path
) -> None:
    folder = unpacked("collection-old-names.tar.xz", tmp_path)
    known = json.loads((folder / "answers.json").read_text())
    wanted = config(folder, seed=0).model_dump(mode="json", exclude_unset=True)
    slots = {"letters": {**letters, "minimum": 3, "first_words": 9}, "lexical": {"adapter": "bm25"}}
    wanted |= {"slots": slots, "search": {**wanted["search"], "retrieve": {"letters": 20, "lexical": 20}}}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "adapter 'ngrams' is called 'bm25' now", FutureWarning)
        with Collection.open(parse_config(wanted), registry=REGISTRY) as collection:
            assert answers(collection, known["queries"]) == known["answers"]
            report = collection.populate(DOCUMENTS[:12])
            assert (report.unchanged, report.new, report.changed) == (12, 0, 0)
            steps = collection.plan(parse_config(wanted), sample=0).steps
            assert [(step.action, step.encode) for step in steps] == [(action, 0), ("keep", 0)]
            outcome = collection.apply(parse_config(wanted)).outcome
            assert outcome == ("nothing to do" if action == "keep" else "changed settings"), "and has the new name then"
            assert collection.populate([{"id": "new", "text": "word3 fresh"}]).new == 1
            assert collection.search("frehs")[0].id == "new"
        with Collection.open(f"edge:{folder / 'qdrant'}", "words", registry=REGISTRY) as bare:
            assert bare.search("frehs")[0].id == "new"
