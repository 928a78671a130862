"""Minimal pairs: what is changed in a twin, where there is none, and which of two a run prefers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych import Document, Query, Run
from diptych.errors import EvaluationError
from diptych.evaluate import Qrels
from diptych.media import MediaConfig, MediaStore
from diptych_experimental.minimal_pairs import MinimalPair, minimal_pairs, picture_pairs, preferences

LANGUAGES = [("perl", "python", "ruby")]


def twins(query: str, document: Document, **options: object) -> dict[str, Document]:
    """The twins of a document for one query, by property."""
    qrels = Qrels({"q": {document.id: 1}})
    pairs = minimal_pairs([Query(query, "q")], qrels, {document.id: document}, **options)  # type: ignore[arg-type]
    assert all((pair.query, pair.document) == ("q", document.id) for pair in pairs)
    assert all(pair.twin.metadata == {**document.metadata, "twin": pair.changed} for pair in pairs)
    return {pair.changed: pair.twin for pair in pairs}


def test_a_number_of_query_and_document_is_another_one_everywhere() -> None:
    document = Document("d", "Reads Qt 5 files, 5.1 too. Qt 5 is from 2012.", "qt 5", {"section": "libs"})
    twin = twins("tools for Qt 5", document, properties=["number"])["number"]
    new = twin.title.removeprefix("qt ")
    assert new.isdigit()
    assert new != "5"
    assert twin.text == f"Reads Qt {new} files, 5.1 too. Qt {new} is from 2012."
    assert (document.title, twin.id) == ("qt 5", "d~number~q")


@pytest.mark.parametrize("query", ["Qt tools", "Qt 6", "x5 5.1.0", ""])
def test_a_number_that_the_query_does_not_state_stays(query: str) -> None:
    assert twins(query, Document("d", "Reads Qt 5 files of x5, 5.1"), properties=["number"]) == {}


def test_a_name_becomes_another_of_its_group_as_it_is_written() -> None:
    document = Document("d", "Python bindings, for python and PYTHON; no pythonic ruby.", "python")
    twin = twins("bindings for Python", document, properties=["name"], names=LANGUAGES)["name"]
    assert twin.text == "Perl bindings, for perl and PERL; no pythonic ruby."
    assert twin.title == "perl"


def test_the_first_statement_of_the_text_is_denied_once() -> None:
    twin = twins("reads mail", Document("d", "Mail. It provides a reader and is small.", "is"))["negation"]
    assert (twin.title, twin.text) == ("is", "Mail. It does not provide a reader and is small.")


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("mail without a server", "It is small."),
        ("mail", "It is small without losing mail."),
        ("mail", "It is not small."),
        ("mail", "The uses of mail."),
        ("mail", "Reads mail."),
        ("mail", ""),
    ],
)
def test_nothing_is_denied_beside_a_denial_or_where_nothing_is_stated(query: str, text: str) -> None:
    assert twins(query, Document("d", text, "mail")) == {}


def test_pairs_are_the_same_for_a_seed_and_their_ids_differ() -> None:
    documents = {name: Document(name, f"version 7 of {name} is here") for name in ("a", "b")}
    queries = [Query("version 7", name) for name in ("q1", "q2")]
    qrels = Qrels({"q1": {"a": 1, "b": 2, "gone": 1}, "q2": {"a": 1, "b": 0}})
    pairs = minimal_pairs(queries, qrels, documents)
    assert pairs == minimal_pairs(queries, qrels, documents)
    assert len({pair.twin.id for pair in pairs}) == len(pairs) == 6
    texts = {tuple(own.twin.text for own in minimal_pairs(queries, qrels, documents, seed=seed)) for seed in range(5)}
    assert len(texts) > 1


@pytest.mark.parametrize(
    "names", [["perl python"], [("perl",)], [("perl", "Perl")], [("c++", "c")], [("a", "b"), ("b", "c")]]
)
def test_groups_that_cannot_be_used_are_refused(names: list[object]) -> None:
    with pytest.raises(EvaluationError, match="a group of names cannot be used"):
        minimal_pairs([], Qrels({"q": {"d": 1}}), {}, names=names)  # type: ignore[arg-type]


def pair(number: int) -> MinimalPair:
    return MinimalPair(f"q{number}", "d", Document(f"t{number}", "twin"), "name")


def test_preferences_count_the_document_the_twin_ties_and_what_is_missing() -> None:
    rankings = {
        "q0": [("x", 3.0), ("d", 2.0), ("t0", 1.0)],
        "q1": [("t1", 2.0), ("d", 1.0)],
        "q2": [("d", 1.0), ("t2", 1.0)],
        "q3": [("d", 1.0)],
        "q4": [("t4", 1.0)],
        "q5": [("x", 1.0)],
    }
    (found,) = preferences(Run("r", rankings), [pair(n) for n in range(6)]).items()
    assert found[0] == "name"
    assert (found[1].pairs, found[1].missing, found[1].share) == (5, 1, 0.5)
    assert found[1].interval is not None
    assert found[1].interval[0] < 0.5 < found[1].interval[1]


def test_a_query_without_a_ranking_is_an_error() -> None:
    with pytest.raises(EvaluationError, match=r"a query has no ranking[^$]*q0"):
        preferences(Run("r", {}), [pair(0)])


@pytest.fixture
def store(tmp_path: Path) -> MediaStore:
    return MediaStore(MediaConfig(), tmp_path)


def arrow(colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A bar of a colour at the left of a white picture."""
    pixels = np.full((8, 12, 3), 255, np.uint8)
    pixels[:, :4] = colour
    return pixels


def pairs(query: str, pixels: NDArray[np.uint8], store: MediaStore) -> dict[str, MinimalPair]:
    document = Document("d", "a bar", "bar", {"n": 1}, {"image": pixels})
    found = picture_pairs([Query(query, "q")], Qrels({"q": {"d": 1, "gone": 1}}), {"d": document}, store)
    return {pair.changed: pair for pair in found}


def test_a_colour_that_the_query_names_becomes_the_next_and_greys_stay(store: MediaStore) -> None:
    (pair,) = pairs("the Red bar", arrow((250, 20, 20)), store).values()
    assert (pair.query, pair.document, pair.changed) == ("q", "d", "colour")
    assert (pair.twin.id, pair.twin.text, pair.twin.title) == ("d~colour~q", "", "")
    assert pair.twin.metadata == {"n": 1, "twin": "colour"}
    np.testing.assert_array_equal(pair.twin.media["image"], arrow((20, 250, 20)))


def test_a_picture_is_mirrored_where_the_query_says_a_side(store: MediaStore) -> None:
    (pair,) = pairs("bar at the left", arrow((250, 20, 20)), store).values()
    assert pair.changed == "side"
    np.testing.assert_array_equal(pair.twin.media["image"], arrow((250, 20, 20))[:, ::-1])
    assert [*pairs("a blue bar, rightwards", arrow((0, 0, 250)), store)] == ["colour", "side"]


@pytest.mark.parametrize(
    ("query", "colour"),
    [("a bar", (250, 20, 20)), ("red", (90, 90, 90)), ("left and right", (250, 20, 20)), ("Wright", (250, 20, 20))],
)
def test_there_is_no_twin_where_nothing_is_stated_or_nothing_would_change(
    query: str, colour: tuple[int, int, int], store: MediaStore
) -> None:
    assert pairs(query, arrow(colour), store) == {}


def test_preferences_are_in_the_order_of_the_properties(store: MediaStore) -> None:
    both = [*pairs("a blue bar, rightwards", arrow((0, 0, 250)), store).values()]
    scores = {"q": [("d", 2.0), (both[1].twin.id, 2.0), (both[0].twin.id, 1.0)]}
    found = preferences(Run("r", scores), both[::-1])
    assert [(name, own.share) for name, own in found.items()] == [("colour", 1.0), ("side", 0.5)]
