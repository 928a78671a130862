"""Sides: an own pipeline as YAML, and the generations that a swap leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from diptych import Collection
from diptych.config import parse_config
from diptych.metadata.store import metadata_payload, update_metadata
from diptych.search import Rerank, Retrieve
from diptych.swap import ApplyOptions
from diptych_serve.studio.sides import kept_views

Ask = Callable[..., Any]
OTHER = {"dense": {"adapter": "fake-dense", "dimension": 8, "seed": 5}, "lexical": {"adapter": "fake-sparse"}}
SWAPPED = parse_config({"store": "memory:", "collection": "own", "slots": OTHER, "cache": {"enabled": False}})
DOCUMENTS = [{"id": str(n), "text": f"text {n} of {word}"} for n, word in enumerate(["cats", "dogs", "owls", "hens"])]


@pytest.mark.parametrize("heading", ["search:\n  ", ""])
def test_an_own_section_is_asked_with_or_without_its_heading(asked: Ask, collection: Collection, heading: str) -> None:
    text = "retrieve: {lexical: 20}\nrerank: [{adapter: fake-reranker, candidates: 3}]\nlimit: 2"
    answer = asked(query="the cat at night", side={"yaml": heading + text.replace("\n", "\n  " if heading else "\n")})
    wanted = collection.search(
        "the cat at night", pipeline=Retrieve("lexical", 20) >> Rerank("fake-reranker", 3), limit=2
    )
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in wanted]
    assert answer["side"] == {"id": "yaml", "label": "own pipeline", "kind": "yaml"}


def test_an_empty_section_is_the_default_pipeline(asked: Ask) -> None:
    answer = asked(query="the cat", side={"yaml": ""})
    assert answer["pipeline"] == "Retrieve('dense', 100) + Retrieve('lexical', 100) + Retrieve('long', 100) >> Dbsf()"


@pytest.mark.parametrize(
    ("yaml", "texts"),
    [
        ("retrieve: {dens: 5}", ["line 1, search.retrieve.dens", "did you mean 'dense'?"]),
        ("limt: 3", ["line 1, search.limt", "did you mean 'limit'?"]),
        ("retrieve: {dense: 5}\nlimit: x", ["line 2, search.limit", "got: 'x'"]),
        ("search:\n  limit: 0", ["line 2, search.limit"]),
        ("store: edge:/etc", ["line 1", "store"]),
        ("- a", ["not a mapping"]),
        ("retrieve: {dense: 5", ["not YAML", "line 1"]),
        ("a: &a [x]\nb: [*a, *a]", ["pipeline"]),
        ("rerank: [{adapter: cross-encoder, model: /etc/passwd}]", ["only the rerankers", "expected: fake-reranker"]),
        ("rerank: [{adapter: fake-reranker, model: ./other}]", ["only the rerankers"]),
        ("retrieve: {dense: 10001}", ["more candidates", "at most 10000"]),
        ("rerank: [{adapter: fake-reranker, candidates: 1001}]", ["more candidates"]),
        ("limit: 3\nlimit: 4", ["appears twice"]),
        ("limit: 2024-99-99", ["pipeline"]),
        ("!!python/object/apply:os.system [x]", ["pipeline"]),
    ],
)
def test_what_is_no_section_is_said_with_its_line(client: TestClient, yaml: str, texts: list[str]) -> None:
    answer = client.post("/studio/api/search", json={"query": "cat", "side": {"yaml": yaml}})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "config_error", "side.yaml"), answer.text
    for text in texts:
        assert text in error["message"]


def test_what_the_server_remembers_is_not_for_a_page_to_say(asked: Ask, collection: Collection) -> None:
    asked(query="cat", side={"yaml": "remember: 1000000000"})
    kept = [view for _, view in kept_views(collection.handle.view).values()]
    assert {view.search_config.remember for view in kept} == {collection.handle.search_config.remember}


def test_many_own_sections_are_not_all_kept(asked: Ask, collection: Collection) -> None:
    for limit in range(1, 36):
        asked(query="cat", side={"yaml": f"limit: {limit}"})
    assert len(kept_views(collection.handle.view)) <= 32


def ids(client: TestClient, side: str) -> list[str]:
    answer = client.post("/studio/api/search", json={"query": "of owls", "side": side})
    assert answer.status_code == 200, answer.text
    return [hit["id"] for hit in answer.json()["hits"]]


def sides(client: TestClient) -> dict[str, str]:
    (state,) = client.get("/studio/api/state").json()["collections"]
    return {side["id"]: side["label"] for side in state["sides"]}


def test_while_a_swap_is_under_way_and_after_it_both_generations_are_sides(
    filled: Callable[..., Collection], studio_over: Callable[..., TestClient]
) -> None:
    collection = filled(DOCUMENTS)
    client = studio_over(collection)
    assert not [side for side in sides(client) if side.startswith(("state:", "generation:"))]
    before = ids(client, "pipeline"), ids(client, "slot:dense")
    collection.apply(SWAPPED, ApplyOptions(gate=False, cut_over=False))
    known = sides(client)
    assert known["state:building"] == "after the swap (dense generation 2, seed: 5)"
    assert known["generation:dense.2"] == "dense generation 2 (being built, seed: 5)"
    assert "state:kept" not in known
    assert ids(client, "slot:dense") == before[1]
    building = ids(client, "state:building"), ids(client, "generation:dense.2")

    collection.apply(SWAPPED, ApplyOptions(gate=False))
    known = sides(client)
    assert known["state:kept"].startswith("before the cut-over (dense generation 1, seed: ")
    assert "kept" in known["generation:dense.1"]
    assert "state:building" not in known
    assert (ids(client, "pipeline"), ids(client, "slot:dense")) == building
    assert (ids(client, "state:kept"), ids(client, "generation:dense.1")) == before
    assert building[1] != before[1]

    collection.rollback()
    assert ids(client, "generation:dense.1") == ids(client, "slot:dense") == before[1], "it is live again"
    assert sides(client)["state:kept"] == "before the rollback (dense generation 2, seed: 5)"
    collection.rollback()
    assert ids(client, "generation:dense.2") == ids(client, "slot:dense")
    collection.finish()
    assert not [side for side in sides(client) if side.startswith(("state:", "generation:"))]
    for side in ("generation:dense.1", "state:kept", "state:building"):
        gone = client.post("/studio/api/search", json={"query": "owls", "side": side}).json()["error"]["message"]
        assert gone.startswith(f"there is no side {side!r}\n")
        assert "those of a swap exist from diptych apply until diptych finish" in gone


def test_an_encoder_of_a_generation_is_loaded_once(
    filled: Callable[..., Collection], studio_over: Callable[..., TestClient]
) -> None:
    collection = filled(DOCUMENTS)
    client = studio_over(collection)
    collection.apply(SWAPPED, ApplyOptions(gate=False))
    ids(client, "state:kept")
    view = kept_views(collection.handle.view)["state:kept"][1]
    encoder = view.slots["dense"].encoder
    ids(client, "generation:dense.1")
    collection.handle.catch_up()
    ids(client, "state:kept")
    assert kept_views(collection.handle.view)["state:kept"][1].slots["dense"].encoder is encoder
    collection.finish()
    sides(client)
    assert "state:kept" not in kept_views(collection.handle.view), "its encoder stays in memory"


def test_a_kept_generation_whose_adapter_is_not_installed_hides_nothing_else(
    filled: Callable[..., Collection], studio_over: Callable[..., TestClient]
) -> None:
    collection = filled(DOCUMENTS)
    collection.apply(SWAPPED, ApplyOptions(gate=False))
    metadata = collection.handle.read()
    assert metadata.previous is not None
    gone = metadata.previous.slots["dense"].model_copy(update={"adapter": "gone"})
    previous = metadata.previous.model_copy(update={"slots": {**metadata.previous.slots, "dense": gone}})
    changed = metadata.model_copy(update={"previous": previous})
    update_metadata(collection.client, "own", metadata_payload(changed))
    client = studio_over(collection)
    assert {"pipeline", "slot:dense", "state:kept", "generation:dense.1"} <= sides(client).keys()
    assert ids(client, "pipeline")
    answer = client.post("/studio/api/search", json={"query": "owls", "side": "generation:dense.1"})
    assert "no adapter is called 'gone'" in answer.json()["error"]["message"]
