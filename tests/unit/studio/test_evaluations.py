"""Evaluations as jobs: the same figures as the library's, and clear refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from diptych import Collection, Query
from diptych.config import parse_config
from diptych.evaluate import Qrels, compare, evaluate
from diptych.search import Retrieve
from diptych.swap import ApplyOptions
from diptych.types import Run
from diptych_serve.studio.answers import JobAnswer
from serving import judged, until

Fill = Callable[..., Collection]
Over = Callable[..., TestClient]
COLOURS = ("red", "green", "blue", "pink", "grey", "black")
DOCUMENTS = [
    {"id": f"d{n}", "text": f"{COLOURS[n % 6]} {COLOURS[n // 6]} number{n}", "hue": COLOURS[n % 2]} for n in range(36)
]
BOTH = ["pipeline", "slot:lexical"]
UNJUDGED: dict[str, tuple[str, dict[str, int]]] = {"free": ("red", {})}
QUERIES = {f"q{n}": (f"{COLOURS[n % 6]} number{n}", f"d{n}") for n in range(24)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 judged queries, and one that is not judged."""
    return few(tmp_path / "colours", 24)


def few(folder: Path, count: int) -> Path:
    return judged(folder, {key: (text, {name: 1}) for key, (text, name) in [*QUERIES.items()][:count]} | UNJUDGED)


@pytest.fixture
def client(filled: Fill, studio_over: Over, folder: Path) -> TestClient:
    return studio_over(filled(DOCUMENTS), queries=[folder])


def finished(client: TestClient, **body: object) -> Any:
    """The job as it is when it has ended."""
    made = client.post("/studio/api/jobs", json=body)
    assert made.status_code == 200, made.text
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(client.get(f"/studio/api/jobs/{made.json()['id']}").json())
        return found["state"] not in ("waiting", "running")

    until(over)
    assert JobAnswer.model_validate(found).model_dump(mode="json") == found, "as the OpenAPI document says"
    return found


def test_an_evaluation_says_which_generations_it_asked(filled: Fill, studio_over: Over, folder: Path) -> None:
    collection = filled(DOCUMENTS)
    client, config = studio_over(collection, queries=[folder]), collection.handle.config
    assert config is not None
    raw = config.model_dump(mode="json", exclude_unset=True, exclude={"source"})
    other = parse_config({**raw, "slots": {**raw["slots"], "dense": {"adapter": "fake-dense", "dimension": 12}}})

    def asked() -> list[dict[str, int]]:
        sides = finished(client, kind="evaluate", judged="colours", sides=["pipeline", "slot:lexical"])["result"][
            "sides"
        ]
        return [side["generations"] for side in sides]

    assert asked() == [{"dense": 1, "lexical": 1}, {"lexical": 1}]
    collection.apply(other, ApplyOptions(gate=False))
    assert asked() == [{"dense": 2, "lexical": 1}, {"lexical": 1}]
    collection.rollback()
    assert asked() == [{"dense": 1, "lexical": 1}, {"lexical": 1}]


def test_sets_are_counted_anew_when_their_files_change_and_say_why_they_cannot_be_read(
    client: TestClient, folder: Path
) -> None:
    few(folder.parent / "other", 3)
    for name in ("queries.jsonl", "qrels/test.tsv"):
        (folder.parent / "other" / name).replace(folder / name)
    (found,) = client.get("/studio/api/state").json()["judged"]
    assert (found["queries"], found["judged"], found["error"]) == (3, 3, None)
    (folder / "queries.jsonl").write_text("no JSON")
    (found,) = client.get("/studio/api/state").json()["judged"]
    assert (found["queries"], "a line is not JSON" in found["error"]) == (0, True)
    answer = client.post("/studio/api/jobs", json={"kind": "evaluate", "sides": BOTH})
    assert (answer.status_code, "a line is not JSON" in answer.json()["error"]["message"]) == (400, True)


def test_two_sides_are_compared_as_evaluate_compares_them(client: TestClient, folder: Path) -> None:
    found = finished(
        client, kind="evaluate", judged="colours", sides=["slot:lexical", "slot:dense"], slices=["hue", "nothing"]
    )["result"]
    collection = client.app.state.serving.served.collection(None)  # type: ignore[attr-defined]
    queries = [Query(text, key) for key, (text, _) in QUERIES.items()]
    qrels = Qrels.read(folder / "qrels/test.tsv")
    runs = []
    for name in ("lexical", "dense"):
        hits = collection.search_batch(queries, pipeline=Retrieve(name), limit=10)
        runs.append(evaluate(Run.from_hits(f"{name} alone", queries, hits), qrels, ["nDCG@10"]))
    expected = compare(runs, "lexical alone", "nDCG@10")
    difference = expected.of("dense alone")
    assert found["verdict"] == expected.sentence("dense alone")
    assert found["difference"]["mean"] == pytest.approx(difference.mean)
    assert [found["difference"][name] for name in ("low", "high", "adjusted")] == pytest.approx(
        [difference.low, difference.high, difference.adjusted]
    )
    assert [side["mean"] for side in found["sides"]] == pytest.approx([run.means["nDCG@10"] for run in runs])
    assert all(side["low"] <= side["mean"] <= side["high"] and side["milliseconds"] > 0 for side in found["sides"])
    rows = {row["id"]: row for row in found["queries"]}
    assert rows.keys() == QUERIES.keys()
    assert {key: row["difference"] for key, row in rows.items()} == pytest.approx(dict(difference.per_query))
    assert all(0 <= row["overlap"] <= 1 for row in rows.values())
    assert {
        (part["slice"]["by"], part["slice"]["value"], len(part["slice"]["queries"])) for part in found["slices"]
    } == {
        ("hue", "red", 12),
        ("hue", "green", 12),
    }
    assert found["remarks"] == ["slices by nothing: no 10 queries share a value of it"]


def test_relevant_documents_that_the_collection_lacks_are_remarked(
    filled: Fill, studio_over: Over, folder: Path
) -> None:
    part = studio_over(filled(DOCUMENTS[:20]), queries=[folder])
    remarks = finished(part, kind="evaluate", judged="colours", sides=["pipeline", "slot:lexical"])["result"]["remarks"]
    assert remarks[0].startswith("4 of 24 relevant documents are not in collection")
    assert "(d20, d21, d22, ...), so no search finds them" in remarks[0]


def test_another_search_section_is_a_side(client: TestClient) -> None:
    own = [{"yaml": "retrieve: {dense: 5}"}, {"yaml": "retrieve: {lexical: 5}"}]
    found = finished(client, kind="evaluate", sides=own)["result"]
    assert [side["label"] for side in found["sides"]] == ["own pipeline 1", "own pipeline 2"]


def test_a_job_is_cancelled_by_its_id_and_an_unknown_one_is_not_found(client: TestClient) -> None:
    made = client.post("/studio/api/jobs", json={"kind": "evaluate", "sides": BOTH}).json()["id"]
    assert client.delete(f"/studio/api/jobs/{made}").json()["state"] in ("cancelled", "running", "done")
    answer = client.get("/studio/api/jobs/none")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_such_job")


def test_without_judged_queries_it_says_how_to_name_some(filled: Fill, studio_over: Over, tmp_path: Path) -> None:
    client = studio_over(filled(DOCUMENTS))
    answer = client.post("/studio/api/jobs", json={"kind": "evaluate", "sides": BOTH})
    assert (answer.status_code, "start Studio with --queries FOLDER" in answer.text) == (400, True)
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "red"}\n')
    client = studio_over(filled(DOCUMENTS), queries=[tmp_path / "queries.jsonl"])
    answer = client.post("/studio/api/jobs", json={"kind": "evaluate", "sides": BOTH})
    assert (answer.status_code, "are not judged" in answer.json()["error"]["message"]) == (400, True)


def test_a_collection_says_what_is_missing_and_who_made_the_vectors(client: TestClient) -> None:
    found = client.get("/studio/api/collection").json()
    assert (found["documents"], found["bytes"]) == (36, None)
    row = found["vectors"][0]
    assert (row["slot"], row["adapter"], row["missing"], row["points"]) == ("dense", "fake-dense", 0, 36)
    assert found["notes"] == ["every document has its vectors, and nothing needs attention"]
    collection = client.app.state.serving.served.collection(None)  # type: ignore[attr-defined]
    collection.client.delete_vectors("own", ["dense.1"], [collection.client.scroll("own", limit=1)[0][0].id])
    found = client.get("/studio/api/collection", params={"collection": "own"}).json()
    assert found["vectors"][0]["missing"] == 1
    assert "1 of 36 documents have no vector" in found["notes"][0]


def test_what_vectors_take_is_measured_in_an_embedded_store(collection: Collection, studio_over: Over) -> None:
    found = studio_over(collection).get("/studio/api/collection").json()
    sizes = {row["slot"]: row["bytes"] for row in found["vectors"]}
    assert all(size > 0 for size in sizes.values())
    assert sum(sizes.values()) < found["bytes"]
    assert all("recorded" in row["canaries"] or "same vectors" in row["canaries"] for row in found["vectors"])
