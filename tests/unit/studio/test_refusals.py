"""What no route of Studio can do is refused at once, by a sentence that names what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from diptych import Collection
from diptych_lab.judge import Agreement, Judgements
from serving import judged

BOTH = ["pipeline", "slot:lexical"]
EVALUATION = {"kind": "evaluate", "sides": BOTH}
JUDGING = {"queries": ["the cat"], "sides": BOTH, "who": "anna"}


@pytest.fixture(scope="module")
def client(
    collection: Collection, studio_over: Callable[..., TestClient], tmp_path_factory: pytest.TempPathFactory
) -> TestClient:
    """Studio over animals with one judged query, where everything may be done."""
    folder = tmp_path_factory.mktemp("refused")
    Judgements(folder / "grades").measured("chat gpt", Agreement(0.8, 40))
    return studio_over(
        collection,
        queries=[judged(folder / "few", {"q": ("the cat", {"cat": 1})})],
        judgements=folder / "grades",
        writes=True,
    )


@pytest.mark.parametrize(
    ("route", "body", "status", "text"),
    [
        ("search", {"query": "cat", "side": "slot:dens"}, 400, "did you mean 'slot:dense'?"),
        ("search", {"query": "cat", "side": "state:building"}, 400, "there is no side"),
        ("search", {"query": ""}, 400, "a query is empty"),
        ("search", {"query": "cat", "limit": 0}, 400, "limit"),
        ("search", {"query": "cat", "limit": 101}, 400, "limit"),
        ("search", {"query": {"text": "cat", "media": {"image": "/etc/passwd"}}}, 400, "does not open files"),
        ("search", {"query": "cat", "collection": "plants"}, 404, "expected: animals"),
        ("search", {"query": "cat", "tenant": "a"}, 400, "tenant"),
        (
            "search",
            {"query": "cat", "filter": {"must": [{"key": "a", "match": {"valu": 1}}]}},
            400,
            "not a Qdrant filt",
        ),
        ("search", {"query": "cat", "more": 1}, 400, "no such key"),
        ("search", {"query": "x" * 100_001}, 422, "too long"),
        ("search", {"query": ["cat"]}, 400, "query"),
        ("locate", {"query": "cat", "id": ""}, 400, "id"),
        ("locate", {"query": "", "id": "cat"}, 400, "a query is empty"),
        ("grades", {}, 400, "query"),
        ("grades", {"query": 5}, 400, "query"),
        ("grades", {"query": "red", "judged": 1}, 400, "judged"),
        ("grades", {"query": "red", "more": 1}, 400, "no such key"),
        ("jobs", {**EVALUATION, "sides": ["pipeline", "slot:dens"]}, 400, "did you mean 'slot:dense'?"),
        ("jobs", {**EVALUATION, "sides": ["slot:dense", "slot:dense"]}, 400, "a side cannot be compared with itself"),
        ("jobs", {**EVALUATION, "sides": ["pipeline"]}, 400, "sides"),
        ("jobs", {**EVALUATION, "judged": "fewer"}, 404, "did you mean 'few'?"),
        ("jobs", {**EVALUATION, "metric": "nDCG@ten"}, 400, "nDCG@ten"),
        ("jobs", {**EVALUATION, "metric": "Recall@9000000"}, 400, "too many hits to keep"),
        ("jobs", {**EVALUATION, "kind": "guess"}, 400, "kind"),
        ("jobs", {**EVALUATION, "collection": "plants"}, 404, "expected: animals"),
        ("judging", {**JUDGING, "who": "  "}, 400, "a judge needs a name"),
        ("judging", {**JUDGING, "who": "an\nna"}, 400, "a judge needs a name"),
        ("judging", {**JUDGING, "who": "chat gpt"}, 400, "the name of a model that judges"),
        ("judging", {**JUDGING, "queries": []}, 400, "no queries to judge"),
        ("judging", {**JUDGING, "queries": [" "]}, 400, "no queries to judge"),
        ("judging", {**JUDGING, "queries": ["x" * 200_000]}, 422, "queries"),
        ("judging", {**JUDGING, "judged": "few"}, 400, "judge either `queries` or those of a set"),
        ("judging", {**JUDGING, "sides": ["slot:dense"]}, 400, "sides"),
        ("judging", {**JUDGING, "sides": ["pipeline", "pipeline"]}, 400, "a side cannot be compared with itself"),
        ("swap/rollback", {"confirm": "Animals"}, 400, "expected: animals"),
    ],
)
def test_what_cannot_be_done_says_why(client: TestClient, route: str, body: Any, status: int, text: str) -> None:
    answer = client.post(f"/studio/api/{route}", json=body)
    assert (answer.status_code, text in answer.json()["error"]["message"]) == (status, True), answer.text


@pytest.mark.parametrize("route", ["search", "locate", "snippets", "swap/rollback"])
def test_only_json_is_read(client: TestClient, route: str) -> None:
    answer = client.post(f"/studio/api/{route}", content='{"query": "cat"}', headers={"content-type": "text/plain"})
    assert answer.status_code == 415


@pytest.mark.parametrize("params", [{}, {"id": "cat", "name": "../x"}, {"id": "cat", "more": "1"}, {"id": "x" * 2000}])
def test_what_is_no_question_for_a_picture_is_refused(client: TestClient, params: dict[str, str]) -> None:
    assert client.get("/studio/api/media", params=params).status_code in (400, 404)
