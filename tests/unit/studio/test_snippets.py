"""Snippets: each gives the hits that Studio shows."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from diptych import Collection
from diptych.config import load_config, parse_config
from diptych.config.models import SearchConfig
from diptych.search import Pipeline
from diptych.swap import ApplyOptions

Ask = Callable[..., Any]
QUERY = "it's a cat's \"$HOME\" \\ `owl` 😀"
LETTERS = {"must": [{"key": "letter", "match": {"any": ["c", "o", "h"]}}]}
OWN = {"yaml": "retrieve: {dense: 10, lexical: 10}\nfuse: {kind: rrf, weights: {dense: 2}}\npin: [hen]\nlimit: 3"}
SIDES = ["pipeline", "slot:dense", "slot:lexical", "slot:long", "part:dbsf", OWN]


def shown(client: TestClient, **body: Any) -> tuple[Any, list[str]]:
    """The snippets, and the ids of the hits that Studio shows."""
    hits = client.post("/studio/api/search", json=body).json()["hits"]
    answer = client.post("/studio/api/snippets", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json(), [hit["id"] for hit in hits]


def run(code: str, collection: Collection) -> list[str]:
    """The ids that a program prints; it is given the open collection, which another process could not open."""
    code = code.replace('Collection.open("diptych.yaml")', "_opened")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(code, {"_opened": collection})
    return [line.split("  ")[1] for line in printed.getvalue().splitlines()]


@pytest.mark.parametrize("side", SIDES, ids=str)
def test_python_gives_the_hits_that_are_shown(client: TestClient, collection: Collection, side: Any) -> None:
    snippets, ids = shown(client, query=QUERY, side=side, limit=3, filter=LETTERS)
    assert ids
    assert run(snippets["python"], collection) == ids


SECTIONS: list[dict[str, Any]] = [
    {},
    {"retrieve": {"dense": 7}, "limit": 3},
    {"fuse": {"kind": "rrf"}},
    {"fuse": {"kind": "rrf", "k": 20, "weights": {"dense": 0.5}}},
    {"fuse": {"kind": "linear", "normalize": "zscore", "missing": -1}},
    {"retrieve": {"dense": 50, "lexical": 50}, "rescore": {"slot": "long", "candidates": 20, "weight": 0.5}},
    {"boost": [{"kind": "field", "field": "letter", "equals": "c"}, {"kind": "recency", "field": "at", "scale": 3}]},
    {"diversify": {"slot": "dense", "relevance": 0.3}},
    {"rerank": [{"adapter": "fake-reranker", "candidates": 5, "deadline": "300ms", "weight": 0.5}]},
    {"rerank": [{"adapter": "fake-reranker", "early_exit": {"block": 3}}]},
    {"params": {"hnsw_ef": 64, "exact": True}, "score_threshold": 0.1, "passages": 2, "highlight": True},
    {"pin": ["yes", "1", "a: b"], "exclude": ["no", "null", "# x"], "limit": 4},
]


@pytest.mark.parametrize("section", SECTIONS, ids=str)
def test_yaml_says_the_section_that_is_asked(
    tmp_path: Path, client: TestClient, collection: Collection, section: dict[str, Any]
) -> None:
    own = {"yaml": json.dumps(section)}
    answer = client.post("/studio/api/snippets", json={"query": "cat", "side": own})
    assert answer.status_code == 200, answer.text
    written_slots = "slots: {dense: {adapter: a}, lexical: {adapter: b}, long: {adapter: c}}\n"
    (tmp_path / "diptych.yaml").write_text(f"collection: x\n{written_slots}{answer.json()['yaml']}")
    written = load_config(tmp_path / "diptych.yaml").search
    wanted = SearchConfig.model_validate(section)
    slots = collection.handle.slots
    assert Pipeline.from_config(written, slots) == Pipeline.from_config(wanted, slots)
    assert written.retrieve == wanted.retrieved(slots), "what is left out is said"
    assert written.model_copy(update={"remember": wanted.remember, "retrieve": wanted.retrieve}) == wanted


def test_yaml_says_what_is_not_trivially_default_and_what_is_asked(client: TestClient) -> None:
    own = {"yaml": "fuse: {kind: rrf}\nrescore: {slot: long}\nretrieve: {dense: 9, lexical: 9}"}
    body = {"query": "a\n# b\x85: c", "side": own, "limit": 3, "filter": LETTERS}
    text = client.post("/studio/api/snippets", json=body).json()["yaml"]
    assert text.splitlines()[:3] == ["# side: own pipeline", r"# query: 'a\n# b\x85: c'", "# limit: 3"]
    for part in ("retrieve: {dense: 9, lexical: 9}", "kind: rrf", "k: 60", "candidates: 50", "# filter: {'must'"):
        assert part in text
    assert "weight" not in text
    default = client.post("/studio/api/snippets", json={"query": "cat", "side": {"yaml": ""}}).json()["yaml"]
    assert "retrieve: {dense: 100, lexical: 100, long: 100}" in default
    assert "kind: dbsf" in default


def test_yaml_of_a_part_gives_its_stages(tmp_path: Path, client: TestClient, collection: Collection) -> None:
    for side in ("slot:lexical", "part:dbsf"):
        text = client.post("/studio/api/snippets", json={"query": "cat", "side": side}).json()["yaml"]
        written_slots = "slots: {dense: {adapter: a}, lexical: {adapter: b}, long: {adapter: c}}\n"
        (tmp_path / "diptych.yaml").write_text(f"collection: x\n{written_slots}{text}")
        written = load_config(tmp_path / "diptych.yaml").search
        pipeline = client.post("/studio/api/search", json={"query": "cat", "side": side}).json()["pipeline"]
        assert repr(Pipeline.from_config(written, collection.handle.slots)) == pipeline


@pytest.mark.parametrize("cut_over", [False, True])
def test_a_generation_that_is_not_live_has_no_program_and_its_yaml(
    filled: Callable[..., Collection], studio_over: Ask, cut_over: bool
) -> None:
    collection = filled(
        [{"id": str(n), "text": f"text {n} of {word}"} for n, word in enumerate(["cats", "owls", "hens"])]
    )
    client = studio_over(collection)
    slots = {"dense": {"adapter": "fake-dense", "dimension": 8, "seed": 5}, "lexical": {"adapter": "fake-sparse"}}
    wanted = parse_config({"store": "memory:", "collection": "own", "slots": slots, "cache": {"enabled": False}})
    collection.apply(wanted, ApplyOptions(gate=False, cut_over=cut_over))
    for side in ("state:kept", "generation:dense.1") if cut_over else ("state:building", "generation:dense.2"):
        snippets, ids = shown(client, query="of hens", side=side, limit=2)
        assert len(ids) == 2
        assert snippets["python"].startswith("# No public name")
        assert snippets["yaml"].startswith("# ")
