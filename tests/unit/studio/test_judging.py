"""Judging in Studio: blind, saved at every grade, and shared with other judges and other processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych.evaluate import read_beir
from diptych_lab.judge import Judgements
from diptych_serve.studio.answers import JudgingAnswer
from serving import ANIMALS, until

Fill = Callable[..., Collection]
Over = Callable[..., TestClient]
TEXTS = ["the cat sleeps", "barks at the man", "hunts mice at night", "an egg every day"]
SIDES = ["slot:dense", "slot:lexical"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "judgements"


@pytest.fixture
def open_studio(filled: Fill, studio_over: Over, folder: Path) -> Callable[..., TestClient]:
    """Studio as after a start: a new process would know no more."""
    documents = [{"id": key, "text": text, "title": f"The {key}"} for key, text in ANIMALS.items()]
    collection = filled(documents)
    return lambda **options: studio_over(collection, **{"judgements": folder, **options})


def begun(client: TestClient, **body: object) -> dict[str, Any]:
    """A session, once its queries have been asked."""
    wanted = {"queries": TEXTS, "sides": SIDES, "who": "anna", **body}
    made = client.post("/studio/api/judging", json=wanted)
    assert made.status_code == 200, made.text
    return shown(client, made.json()["id"])


def shown(client: TestClient, session: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def prepared() -> bool:
        found.update(client.get(f"/studio/api/judging/{session}").json())
        return found["state"] not in ("waiting", "running")

    until(prepared)
    return found


def graded(client: TestClient, pair: dict[str, Any], grade: int | None) -> dict[str, Any]:
    body = {"query": pair["query"]["id"], "document": pair["document"]["id"], "grade": grade}
    answer = client.post(f"/studio/api/judging/{pair['id']}", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert JudgingAnswer.model_validate(found).model_dump(mode="json") == found
    return found


def pair_of(found: dict[str, Any]) -> tuple[str, str]:
    return found["query"]["id"], found["document"]["id"]


def log(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "judgements.jsonl").read_text().splitlines()]


def test_a_judge_sees_the_query_and_the_document(open_studio: Callable[..., TestClient]) -> None:
    pair = begun(open_studio())
    assert pair["query"]["text"] in TEXTS
    assert pair["document"]["text"] == ANIMALS[pair["document"]["id"]]
    assert pair["document"]["title"] == f"The {pair['document']['id']}"


def test_a_judge_sees_the_beginning_of_a_very_long_text(filled: Fill, studio_over: Over, folder: Path) -> None:
    documents = [{"id": "long", "text": "red " * 10_000}, {"id": "other", "text": "blue"}]
    client = studio_over(filled(documents), judgements=folder)
    pair = begun(client, queries=["red"], complete=True)
    while pair["document"]["id"] != "long":
        pair = graded(client, pair, 0)
    assert len(pair["document"]["text"]) == 20_000


def test_sides_with_the_same_hits_leave_nothing_to_judge(filled: Fill, studio_over: Over, folder: Path) -> None:
    client = studio_over(filled([{"id": "only", "text": "red"}]), judgements=folder)
    ended = begun(client, queries=["red"])
    assert (ended["state"], ended["total"], ended["document"]) == ("settled", 0, None)
    assert "is equal to" in ended["verdict"]


def test_every_grade_is_saved_at_once_with_who_and_when(open_studio: Callable[..., TestClient], folder: Path) -> None:
    client = open_studio()
    pair = begun(client)
    first = pair_of(pair)
    pair = graded(client, pair, 2)
    (event,) = [event for event in log(folder) if "grade" in event]
    assert (event["query"], event["document"], event["grade"], event["judge"]) == (*first, 2, "anna")
    assert event["time"].startswith("20")
    assert (pair["done"], pair_of(pair) != first) == (1, True)


def test_judging_to_the_end_gives_the_verdict_and_qrels_that_evaluate_reads(
    open_studio: Callable[..., TestClient], folder: Path
) -> None:
    client = open_studio()
    pair = begun(client)
    while pair["state"] == "judging":
        said = json.dumps({name: value for name, value in pair.items() if name != "document"})
        assert not any(word in said for word in ("dense", "lexical", "better", "worse")), "the judge is blind"
        pair = graded(client, pair, 3 if pair["document"]["id"] == "cat" else 0)
    assert pair["state"] in ("settled", "finished")
    assert "lexical alone" in pair["verdict"]
    queries, qrels = read_beir(folder)
    assert {query.text for query in queries} <= set(TEXTS)
    assert len(qrels) >= 1
    judged = client.get("/studio/api/state").json()["judged"]
    assert [(own["name"], own["judged"]) for own in judged] == [("judgements", len(qrels))]


def test_undo_takes_the_last_grade_back_and_shows_its_pair_again(
    open_studio: Callable[..., TestClient], folder: Path
) -> None:
    client = open_studio()
    pair = begun(client)
    first = pair_of(pair)
    graded(client, pair, 0)
    undone = client.post(f"/studio/api/judging/{pair['id']}/undo", json={}).json()
    assert (pair_of(undone), undone["done"], undone["undone"]) == (first, 0, [*first])
    assert client.post(f"/studio/api/judging/{pair['id']}/undo", json={}).json()["undone"] is None
    skipped = graded(client, undone, None)
    assert skipped["done"] == 1
    assert Judgements(folder).grades["anna"] == {first: None}


def test_a_new_start_goes_on_where_the_last_one_ended(open_studio: Callable[..., TestClient], folder: Path) -> None:
    client = open_studio()
    pair = begun(client)
    pair = graded(client, graded(client, pair, 1), 2)
    with (folder / "judgements.jsonl").open("a") as stream:
        stream.write('{"query": "q", "docu')  # as a killed process may leave it
    again = begun(open_studio())
    assert (pair_of(again), again["done"]) == (pair_of(pair), 2)
    graded(client, again | {"id": pair["id"]}, 0)
    assert len(log(folder)) >= 4, "the incomplete line is gone, and nothing else"


def test_two_judges_share_the_work_and_each_keeps_their_name(
    open_studio: Callable[..., TestClient], folder: Path
) -> None:
    client, other = open_studio(), open_studio()
    anna, bob = begun(client), begun(other, who="bob")
    assert pair_of(anna) == pair_of(bob)
    after = graded(client, anna, 3)
    seen = other.get(f"/studio/api/judging/{bob['id']}").json()
    assert pair_of(seen) == pair_of(after), "what anna graded is not asked of bob"
    graded(other, bob, 1)
    kept = Judgements(folder)
    assert {who: list(own.values()) for who, own in kept.grades.items()} == {"anna": [3], "bob": [1]}
    assert kept.grade(*pair_of(anna)) == 1, "of two grades the lower"
    undone = other.post(f"/studio/api/judging/{bob['id']}/undo", json={}).json()
    assert undone["undone"] == [*pair_of(anna)]
    assert Judgements(folder).grade(*pair_of(anna)) == 3


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"grade": 4}, "grade"),
        ({"grade": True}, "grade"),
        ({"grade": "3"}, "grade"),
        ({"document": "unicorn"}, "this pair is not among those to judge"),
        ({"query": "other"}, "this pair is not among those to judge"),
    ],
)
def test_a_grade_that_is_none_is_refused_and_nothing_is_saved(
    open_studio: Callable[..., TestClient], folder: Path, change: dict[str, object], text: str
) -> None:
    client = open_studio()
    pair = begun(client)
    body = {"query": pair["query"]["id"], "document": pair["document"]["id"], "grade": 1, **change}
    answer = client.post(f"/studio/api/judging/{pair['id']}", json=body)
    assert (answer.status_code, text in answer.json()["error"]["message"]) == (400, True), answer.text
    missing = client.post(f"/studio/api/judging/{pair['id']}", json={"query": "q", "document": "d"})
    assert missing.status_code == 400, "a grade that is left out is no skip"
    assert not Judgements(folder).grades


def test_judgements_of_another_collection_are_not_mixed_in(filled: Fill, studio_over: Over, folder: Path) -> None:
    documents = [{"id": key, "text": text} for key, text in ANIMALS.items()]
    first, second = filled(documents), filled(documents, collection="other")
    client = studio_over(first, second, judgements=folder)
    begun(client, collection="own")
    wanted = {"collection": "other", "queries": TEXTS, "sides": SIDES, "who": "anna"}
    answer = client.post("/studio/api/judging", json=wanted)
    assert (answer.status_code, "of another collection" in answer.text) == (400, True), answer.text
    begun(client, collection="own")


def test_without_a_folder_nobody_may_judge(filled: Fill, studio_over: Over) -> None:
    client = studio_over(filled([{"id": "a", "text": "red"}]))
    wanted = {"queries": TEXTS, "sides": SIDES, "who": "anna"}
    for answer in (client.post("/studio/api/judging", json=wanted), client.get("/studio/api/judging/x")):
        assert (answer.status_code, "--judgements FOLDER" in answer.json()["error"]["message"]) == (403, True)


def test_the_side_of_a_tenant_needs_the_tenant(fakes: Registry, studio_over: Over, filled: Fill, folder: Path) -> None:
    documents = [{"id": f"{who}{n}", "text": f"red {n}", "who": who} for who in "ab" for n in range(3)]
    collection = filled(documents, tenant={"field": "who"})
    client = studio_over(collection, judgements=folder)
    failed = begun(client, queries=["red 1"])
    assert (failed["state"], "tenant" in failed["error"]["message"]) == ("failed", True)
    pair = begun(client, queries=["red 1"], tenant="a")
    assert pair["document"]["id"].startswith("a")
