"""Searching in Studio gives what the collection gives, with what a page shows of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from qdrant_client.http.exceptions import ResponseHandlingException
from starlette.testclient import TestClient

from diptych import Collection, Document
from diptych.search import Retrieve
from diptych_serve.studio.display import name_of, one_direction

Ask = Callable[..., Any]
Over = Callable[..., TestClient]


def ids(answer: Any) -> list[str]:
    return [hit["id"] for hit in answer["hits"]]


def test_the_state_names_what_can_be_asked(client: TestClient) -> None:
    state = client.get("/studio/api/state").json()
    (collection,) = state["collections"]
    assert (collection["name"], collection["documents"], collection["error"]) == ("animals", 4, None)
    sides = [side["id"] for side in collection["sides"]]
    assert sides == ["pipeline", "slot:dense", "slot:lexical", "slot:long", "part:dbsf"]
    assert collection["fields"] == [{"key": "letter", "type": "keyword", "indexed": False}]
    assert (state["may_write"], state["may_judge"]) == (False, False)


def test_the_whole_pipeline_and_one_slot_answer_as_the_collection_does(asked: Ask, collection: Collection) -> None:
    answer = asked(query="the cat at night")
    hits = collection.search("the cat at night")
    assert [(hit["id"], hit["score"]) for hit in answer["hits"]] == [(h.id, pytest.approx(h.score)) for h in hits]
    assert [*answer["seconds"]] == ["encode", "retrieve", "rerank"]
    alone = asked(query="the cat at night", side="slot:lexical", limit=2)
    wanted = collection.search("the cat at night", pipeline=Retrieve("lexical"), limit=2)
    assert ids(alone) == [hit.id for hit in wanted]
    assert asked(query="the cat", side="part:dbsf")["pipeline"].endswith("Dbsf()")


def test_a_filter_holds_and_a_key_that_no_document_has_is_named(asked: Ask) -> None:
    assert ids(asked(query="cat", filter={"must": [{"key": "letter", "match": {"value": "c"}}]})) == ["cat"]
    answer = asked(query="cat", filter={"must": [{"key": "lettre", "match": {"value": "c"}}]})
    assert answer["warnings"] == ["no document has 'lettre', which the filter asks for: did you mean 'letter'?"]


def test_more_hits_than_the_stages_pass_on_are_no_error(asked: Ask) -> None:
    assert len(asked(query="the cat", limit=100)["hits"]) == 4


def test_words_that_match_are_where_javascript_finds_them(filled: Callable[..., Collection], studio_over: Over) -> None:
    text = "😀 a cat, and 🐈‍⬛ the Cat again"
    client = studio_over(filled([{"id": "1", "text": text}]))
    hit = client.post("/studio/api/search", json={"query": "cat"}).json()["hits"][0]
    units = text.encode("utf-16-le")
    marked = [units[2 * start : 2 * end].decode("utf-16-le") for start, end in hit["highlights"]]
    assert [word.lower() for word in marked] == ["cat", "cat"]
    assert hit["text_length"] == len(units) // 2


def test_a_long_text_is_cut_and_an_explained_document_can_be_read_whole(
    filled: Callable[..., Collection], studio_over: Over
) -> None:
    text = "😀 cat " * 2000
    payload = {"deep": [[[[[[[[[[1]]]]]]]]]], "large": 2**60, "list": list(range(500)), "long": "x" * 5000}
    client = studio_over(filled([{"id": "1", "text": text, **payload}]))
    hit = client.post("/studio/api/search", json={"query": "cat"}).json()["hits"][0]
    assert len(hit["text"]) < len(text)
    assert hit["text_length"] == len(text) + 2000
    shown = hit["payload"]
    assert (shown["large"], len(shown["list"]), len(shown["long"])) == (str(2**60), 201, 2001)
    assert "…" in str(shown["deep"])
    assert client.post("/studio/api/locate", json={"query": "cat", "id": "1"}).json()["document"]["text"] == text


def test_tenants_see_their_own_documents_alone(filled: Callable[..., Collection], studio_over: Over) -> None:
    documents = [{"id": "1", "text": f"a cat of {tenant}", "customer": tenant} for tenant in ("ann", "bob")]
    client = studio_over(filled(documents, tenant={"field": "customer"}))
    assert client.get("/studio/api/state").json()["collections"][0]["tenants"] is True

    def post(route: str, **body: object) -> Any:
        return client.post(f"/studio/api/{route}", json=body)

    for route, body in (("search", {"query": "cat"}), ("locate", {"query": "cat", "id": "1"})):
        assert "a tenant is required" in post(route, **body).json()["error"]["message"]
        assert "bob" not in post(route, tenant="ann", **body).text
    assert [hit["text"] for hit in post("search", query="cat", tenant="ann").json()["hits"]] == ["a cat of ann"]
    assert post("locate", query="cat", id="1", tenant="eve").json()["exists"] is False


def test_a_collection_that_is_still_empty_says_so(
    fakes: Any, studio_over: Over, filled: Callable[..., Collection]
) -> None:
    client = studio_over(filled([]))
    (state,) = client.get("/studio/api/state").json()["collections"]
    assert "diptych populate" in state["error"]
    assert client.post("/studio/api/search", json={"query": "cat"}).status_code == 404


@pytest.mark.parametrize("side", ["pipeline", "slot:lexical", "state:kept"])
def test_a_store_that_does_not_answer_is_said_to_be_so(
    filled: Callable[..., Collection], studio_over: Over, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    collection = filled([{"id": "1", "text": "a cat"}])
    client = studio_over(collection)

    def fails(*args: object, **options: object) -> None:
        raise ResponseHandlingException(httpx.ConnectError("refused"))

    for name in ("scroll", "retrieve", "get_collection", "query_batch_points", "count"):
        monkeypatch.setattr(collection.client, name, fails)
    (state,) = client.get("/studio/api/state").json()["collections"]
    assert "does not answer" in state["error"]
    asked = {"query": "cat", "side": side}
    for route, body in (("search", asked), ("locate", {**asked, "id": "1"})):
        answer = client.post(f"/studio/api/{route}", json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable"), route
    for route in ("media?id=1", "collection"):
        assert client.get(f"/studio/api/{route}").status_code == 503, route


def test_a_long_document_is_shown_from_its_best_passage(filled: Callable[..., Collection], studio_over: Over) -> None:
    slots = {"dense": {"adapter": "fake-dense", "passages": {"tokens": 24, "overlap": 4}}}
    lines = [f"😀 Part {n} says words{n} and more{n} once again." for n in range(400)]
    lines[300] = "The player can convert audio files to any format."
    text = " ".join(lines)
    collection = filled([{"id": "1", "text": text}], slots=slots)
    client = studio_over(collection)
    hit = client.post("/studio/api/search", json={"query": "convert audio files"}).json()["hits"][0]
    units = text.encode("utf-16-le")
    assert len(hit["passages"]) == 3
    for passage in hit["passages"]:
        assert units[2 * passage["start"] : 2 * passage["end"]].decode("utf-16-le") == passage["text"]
    assert "convert audio files" in hit["passages"][0]["text"]
    assert "convert audio files" in hit["text"]
    start = 2 * hit["text_start"]
    assert units[start:].decode("utf-16-le").startswith(hit["text"])
    assert hit["passages"][0]["start"] > hit["text_start"] > 0


@pytest.mark.parametrize(
    ("title", "text", "name"),
    [
        ("  Owls ", "of owls", "Owls"),
        (" ", "the\n owl  hunts", "the owl hunts"),
        ("", "word " * 12 + "end", "word " * 11 + "word…"),
        ("", "x" * 70, "x" * 60 + "…"),
        ("", " ", "7"),
    ],
)
def test_a_document_without_a_title_is_known_by_the_first_words_of_its_text(title: str, text: str, name: str) -> None:
    assert name_of(Document("7", text, title=title)) == name


@pytest.mark.parametrize(
    ("key", "value", "query", "said"),
    [
        ("lettre", "c", "cat", "did you mean 'letter'?"),
        ("quite_else", "c", "cat", "there are letter"),
        ("letter", "zz", "cat", "none has these values"),
        ("letter", "h", "cat", "the query finds none of them"),
    ],
)
def test_a_filter_that_leaves_nothing_says_why_each_time(
    asked: Ask, key: str, value: str, query: str, said: str
) -> None:
    filter = {"must": [{"key": key, "match": {"value": value}}]}
    for _ in range(2):
        (warning,) = asked(query=query, filter=filter, side="slot:lexical")["warnings"]
        assert said in warning


def test_signs_that_turn_the_direction_of_writing_are_left_out_of_sentences() -> None:
    assert one_direction("\u202egnp.exe \u2066a\u2069 עברית") == "gnp.exe a עברית"
