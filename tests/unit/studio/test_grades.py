"""The grades of a query's documents, where it is one of a set of judged queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qdrant_client import QdrantClient, models
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.evaluate import Qrels
from diptych.evaluate.ask import absent_documents
from diptych.metadata.payloads import Layout
from diptych.testing import FakeDenseEncoder
from diptych.types import Query
from diptych_lab.judge import Judgements
from diptych_serve.studio.answers import Grades
from diptych_serve.studio.search import MOST, NAMED
from serving import judged

Fill = Callable[..., Collection]
Over = Callable[..., TestClient]
DOCUMENTS = [{"id": f"d{n}", "text": f"red number{n}", "title": f"The {n}" if n else ""} for n in range(4)]
NOTHING: dict[str, Any] = {"judged": None, "query": None, "grades": {}, "relevant": [], "more": 0, "absent": 0}


def graded_folder(folder: Path, grades: Mapping[str, int]) -> Path:
    return judged(folder, {"q1": ("red", grades), "free": ("blue", {})})


def graded(client: TestClient, query: str = "red", **body: object) -> Any:
    answer = client.post("/studio/api/grades", json={"query": query, **body})
    assert answer.status_code == 200, answer.text
    assert Grades.model_validate_json(answer.content).model_dump(mode="json") == answer.json()
    return answer.json()


def test_the_grades_of_a_judged_query_are_told_by_its_words(filled: Fill, studio_over: Over, tmp_path: Path) -> None:
    folder = graded_folder(tmp_path / "few", {"d1": 1, "d0": 3, "d2": 0, "gone": 2, "bad": 0})
    client = studio_over(filled(DOCUMENTS), queries=[folder])
    assert graded(client, " red ") == {
        "judged": "few",
        "query": "q1",
        "grades": {"d0": 3, "d1": 1, "d2": 0},
        "relevant": [{"id": "d0", "name": "red number0", "grade": 3}, {"id": "d1", "name": "The 1", "grade": 1}],
        "more": 0,
        "absent": 1,
    }
    assert graded(client, "blue") == graded(client, "Red") == graded(client, "") == NOTHING


def test_grades_that_come_meanwhile_are_told(filled: Fill, studio_over: Over, tmp_path: Path) -> None:
    folder = tmp_path / "judgements"
    client = studio_over(filled(DOCUMENTS), judgements=folder)
    assert graded(client) == NOTHING
    judgements = Judgements(folder)
    for grade in (2, 1):
        judgements.pool("q", ["d1"], judge="anna")
        judgements.add("q", "d1", grade, judge="anna")
        judgements.save([Query("red", "q")])
        assert graded(client)["grades"] == {"d1": grade}
    judgements.note_collections(["other"])
    assert graded(client) == NOTHING, "these are documents of another collection"
    (folder / "manifest.json").unlink()
    assert graded(client)["judged"] == "judgements"


def test_the_set_that_is_named_comes_first(filled: Fill, studio_over: Over, tmp_path: Path) -> None:
    folders = [graded_folder(tmp_path / name, {"d1": grade}) for name, grade in (("a", 1), ("b", 2))]
    client = studio_over(filled(DOCUMENTS), queries=folders)
    assert [graded(client, judged=name)["judged"] for name in ("a", "b", "c")] == ["a", "b", "a"]


def test_of_very_many_judgements_the_best_are_told(filled: Fill, studio_over: Over, tmp_path: Path) -> None:
    documents = [{"id": f"d{n}", "text": "red"} for n in range(NAMED + 5)]
    grades = {f"d{n}": 1 + n % 2 for n in range(NAMED + 5)} | {f"other{n}": 0 for n in range(MOST)}
    client = studio_over(filled(documents), queries=[graded_folder(tmp_path / "many", grades)])
    found = graded(client)
    assert (len(found["relevant"]), found["more"], found["absent"]) == (NAMED, 5, 0)
    assert [own["grade"] for own in found["relevant"]] == sorted(
        (own["grade"] for own in found["relevant"]), reverse=True
    )
    assert len(found["grades"]) == NAMED + 5


def test_of_other_tenants_documents_nothing_is_said(filled: Fill, studio_over: Over, tmp_path: Path) -> None:
    documents = [{"id": f"{who}{n}", "text": f"red {n}", "who": who} for who in "ab" for n in range(2)]
    folder = graded_folder(tmp_path / "few", {"a0": 1, "b0": 1, "b1": 0, "gone": 1})
    client = studio_over(filled(documents, tenant={"field": "who"}), queries=[folder])
    refused = client.post("/studio/api/grades", json={"query": "red"})
    assert (refused.status_code, "a tenant is required" in refused.text) == (400, True)
    found = graded(client, tenant="a")
    assert (found["grades"], [own["id"] for own in found["relevant"]], found["absent"]) == ({"a0": 1}, ["a0"], 0)
    assert graded(client, tenant="eve")["grades"] == {}


def test_a_document_of_many_points_hides_no_other(fakes: Registry, studio_over: Over, tmp_path: Path) -> None:
    client = QdrantClient(":memory:")
    client.create_collection("c", vectors_config=models.VectorParams(size=8, distance=models.Distance.COSINE))
    row = FakeDenseEncoder(dimension=8).encode_document(["red"])[0].tolist()

    def write(points: Mapping[int, str]) -> None:
        payloads = {n: {"text": "red", "key": key} for n, key in points.items()}
        client.upsert("c", [models.PointStruct(id=n, vector=row, payload=own) for n, own in payloads.items()])

    write({7: "d1", 8: "d2", 9: "d3"})
    slots = {"dense": {"adapter": "fake-dense", "dimension": 8}}
    config = parse_config({"store": "memory:", "collection": "c", "slots": slots})
    layout = Layout(text="text", id="key", origin="custom")
    folder = graded_folder(tmp_path / "few", {"d1": 1, "d2": 2, "d3": 0, "gone": 1})
    with Collection.adopt(config, store=client, layout=layout, registry=fakes) as collection:
        write(dict.fromkeys(range(6), "d1"))  # by the other program, afterwards
        found = graded(studio_over(collection, queries=[folder]))
        assert (found["grades"], found["absent"]) == ({"d2": 2, "d1": 1, "d3": 0}, 1)
        said = absent_documents(collection.handle, Qrels({"q1": {"d1": 1, "d2": 2, "gone": 1}}))
    assert said.startswith("1 of 3 relevant documents are not in collection 'c' (gone)")


def test_a_set_that_cannot_be_read_has_no_grades(filled: Fill, studio_over: Over, tmp_path: Path) -> None:
    folder = graded_folder(tmp_path / "few", {"d1": 1})
    client = studio_over(filled(DOCUMENTS), queries=[folder])
    assert graded(client)["judged"] == "few"
    (folder / "qrels/test.tsv").write_text("q1\td1\tmany\n")
    assert graded(client) == NOTHING
