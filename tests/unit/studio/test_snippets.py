"""Snippets: each gives the hits that Studio shows."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import models
from starlette.testclient import TestClient

from diptych import Collection, Registry
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


def sent(client: TestClient, command: str) -> Any:
    """What a call of curl gets, made by this client."""
    words = [word for word in shlex.split(command) if word != "\n"]
    assert words[:2] == ["curl", "-s"]
    headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
    return client.post(words[2], content=words[words.index("-d") + 1].encode(), headers=headers)


@pytest.mark.parametrize("side", SIDES, ids=str)
def test_python_and_curl_give_the_hits_that_are_shown(client: TestClient, collection: Collection, side: Any) -> None:
    snippets, ids = shown(client, query=QUERY, side=side, limit=3, filter=LETTERS)
    assert ids
    assert run(snippets["python"], collection) == ids
    answer = sent(client, snippets["curl"])
    assert answer.status_code == 200, answer.text
    found = answer.json()
    hits = found["hits"] if "hits" in found else found["results"][0]["hits"]
    assert [hit["id"] for hit in hits] == ids


def test_curl_sends_a_key_where_one_is_needed(client: TestClient, collection: Collection, fakes: Registry) -> None:
    from diptych_serve.service.access import Keys
    from diptych_serve.service.application import application
    from diptych_serve.service.served import Served
    from diptych_serve.studio.routes import studio

    app = application(Served([collection], registry=fakes), keys=Keys(["secret"]), extension=studio())
    keyed = TestClient(app, headers={"authorization": "Bearer secret"})
    snippets, _ = shown(keyed, query="cat")
    assert '-H "Authorization: Bearer $DIPTYCH_API_KEY"' in snippets["curl"]
    assert "secret" not in json.dumps(snippets)
    assert "Authorization" not in shown(client, query="cat")[0]["curl"]


@pytest.fixture
def really_asked(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests that the engine gets."""
    found: list[Any] = []
    whole = collection.client.query_batch_points

    def noting(name: str, requests: Sequence[models.QueryRequest], **more: Any) -> Any:
        found.extend(requests)
        return whole(name, requests, **more)

    monkeypatch.setattr(collection.client, "query_batch_points", noting)
    return found


@pytest.mark.parametrize("side", [*SIDES, {"yaml": "fuse: {kind: linear}"}], ids=str)
def test_qdrants_json_is_what_the_engine_is_asked(
    client: TestClient, really_asked: list[Any], collection: Collection, side: Any
) -> None:
    hits = client.post("/studio/api/search", json={"query": QUERY, "side": side, "filter": LETTERS}).json()["hits"]
    wanted = [json.loads(request.model_dump_json(exclude_none=True)) for request in really_asked]
    body = {"query": QUERY, "side": side, "filter": LETTERS}
    snippet = client.post("/studio/api/snippets", json=body).json()
    searches = snippet["qdrant"]["body"]["searches"]
    assert searches == wanted
    assert snippet["qdrant"]["path"] == "/collections/animals/points/query/batch"
    requests = [models.QueryRequest.model_validate(search) for search in searches]
    points = [answer.points for answer in collection.client.query_batch_points("animals", requests)]
    if not any("reranks" in note or "fuses" in note or "pinned" in note for note in snippet["notes"]):
        assert {hit["id"] for hit in hits} <= {(point.payload or {})["_diptych"]["id"] for point in points[0]}


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
