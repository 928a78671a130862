"""/rerank in the manner of Cohere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from diptych import Collection, Registry
from diptych.search import score
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from serving import animals, served

QUERY = "the cat sleeps"
DOCUMENTS = ["an owl", "the cat sleeps at night", "the cat", "the dog sleeps"]


def ranked(client: httpx.Client, path: str = "/rerank", **changes: Any) -> Any:
    answer = client.post(path, json={"model": "fake-reranker", "query": QUERY, "documents": DOCUMENTS, **changes})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_documents_come_by_the_rerankers_scores(client: httpx.Client, fakes: Registry, path: str) -> None:
    wanted = score(fakes.create("fake-reranker"), QUERY, DOCUMENTS).tolist()  # type: ignore[arg-type]
    results = ranked(client, path)["results"]
    assert [row["index"] for row in results] == sorted(range(4), key=lambda place: -wanted[place])
    assert {row["index"]: row["relevance_score"] for row in results} == dict(enumerate(wanted))


def test_top_n_cuts_ties_keep_their_order_and_texts_come_back_when_asked_for(client: httpx.Client) -> None:
    (best,) = ranked(client, top_n=1, return_documents=True)["results"]
    assert best["document"] == {"text": "the cat sleeps at night"}
    assert "document" not in ranked(client)["results"][0]
    mixed = [{"text": DOCUMENTS[0], "id": 7}, *DOCUMENTS[1:]]
    assert ranked(client, documents=mixed)["results"] == ranked(client, model=None)["results"]
    assert [row["index"] for row in ranked(client, documents=["an owl", "an ape", "an elk"])["results"]] == [0, 1, 2]


def test_without_a_reranker_it_says_how_to_serve_one(tmp_path: Path, fakes: Registry) -> None:
    collection: Collection = animals(tmp_path, fakes, search={"retrieve": {"dense": 10}})
    with served(application(Served([collection], registry=fakes))) as url:
        answer = httpx.post(f"{url}/rerank", json={"query": QUERY, "documents": DOCUMENTS})
    assert answer.status_code == 400
    assert "--adapter cross-encoder:MODEL" in answer.json()["error"]["message"]
