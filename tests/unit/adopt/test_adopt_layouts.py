"""Layouts are told from payloads, and likeness from vectors."""

from __future__ import annotations

import uuid
from typing import Any

import numpy as np
import pytest

from diptych.adopt.layouts import LAYOUTS, layouts_of, stated_layout, with_id
from diptych.adopt.verify_encoders import Likeness, likeness_of
from diptych.metadata.payloads import NATIVE, Layout
from diptych.types import SparseVector

TEXT = "some words that are worth being encoded"


def found(payload: dict[str, Any], more: int = 5) -> list[Layout]:
    points: dict[int | str, dict[str, Any]] = {
        n: {**payload, **({"id": f"i{n}"} if "id" in payload else {})} for n in range(more)
    }
    return layouts_of(points, where="collection 'c'")


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        ({"page_content": TEXT, "metadata": {"k": "v"}}, "langchain"),
        ({"_node_content": "{}", "_node_type": "TextNode", "k": "v"}, "llama-index"),
        ({"id": "x", "content": TEXT, "meta": {}, "blob": None}, "haystack"),
        ({"document": TEXT}, "fastembed"),
    ],
)
def test_frameworks_are_known_by_their_keys(payload: dict[str, Any], name: str) -> None:
    assert found(payload) == [LAYOUTS[name]]


def test_points_of_diptych_whose_metadata_was_lost_are_its_own_again() -> None:
    assert found({"text": TEXT, "_diptych": {"id": "a", "hash": "b"}}) == [NATIVE]


def test_a_title_among_a_frameworks_metadata_may_have_been_encoded() -> None:
    plain, titled = found({"page_content": TEXT, "metadata": {"title": "head"}})
    assert (plain.title, titled.title) == (None, "metadata.title")


def test_texts_by_hand_are_tried_in_the_order_of_likelihood() -> None:
    payload = {"url": "http://x", "note": TEXT * 3, "body": TEXT, "text": "short", "in": {"de": TEXT * 2}, "n": 3}
    assert [layout.text for layout in found(payload)] == ["text", "body", "note", "in.de", "url"]
    assert {layout.origin for layout in found(payload)} == {"by hand"}


def test_title_id_and_metadata_by_hand() -> None:
    (first, *_) = found({"id": "x", "title": "head", "text": TEXT, "metadata": {"k": "v"}})
    assert (first.title, first.id, first.metadata) == ("title", "id", "metadata")
    (first, *_) = found({"id": "x", "text": TEXT, "metadata": {"k": "v"}, "more": 1})
    assert (first.title, first.id, first.metadata) == (None, "id", None)
    same: dict[int | str, dict[str, Any]] = {n: {"id": "x", "text": TEXT} for n in range(3)}
    assert layouts_of(same, where="c")[0].id is None


def test_ids_tell_whether_they_are_numbers_and_the_points_ids() -> None:
    layout = Layout(text="text", id="id", origin="by hand")
    own = with_id(layout, {n: {"id": n} for n in range(3)})
    other = with_id(layout, {n: {"id": f"{n + 1}"} for n in range(3)})
    assert (own.integer_ids, own.own_points) == (True, True)
    assert (other.integer_ids, other.own_points) == (False, False)


def test_points_in_haystacks_manner_with_other_point_ids_are_by_hand() -> None:
    layout = LAYOUTS["haystack"]
    own = {uuid.uuid5(uuid.UUID("3896d314-1e95-4a3a-b45a-945f9f0b541d"), f"i{n}"): {"id": f"i{n}"} for n in range(3)}
    assert with_id(layout, {str(point): payload for point, payload in own.items()}).origin == "haystack"
    assert with_id(layout, {n: {"id": f"i{n}"} for n in range(3)}).origin == "by hand"


def test_a_title_among_the_metadata_by_hand_may_have_been_encoded() -> None:
    plain, titled, *_ = found({"text": TEXT, "metadata": {"title": "head"}})
    assert (plain.title, titled.title, titled.metadata) == (None, "metadata.title", "metadata")


def test_a_stated_layout_is_a_frameworks_with_other_keys() -> None:
    assert stated_layout() is None
    assert stated_layout("haystack") == LAYOUTS["haystack"]
    assert stated_layout("langchain", text="body") == LAYOUTS["langchain"].model_copy(update={"text": "body"})
    assert stated_layout(text="a.b", id="nr") == Layout(text="a.b", title=None, id="nr", origin="by hand")


AXIS, TWICE, OTHER = np.array([1, 0], np.float32), np.array([2, 0], np.float32), np.array([0, 1], np.float32)
TOKENS, NONE = np.ones((3, 2), np.float32), SparseVector.from_mapping({})
ONE, TWO = SparseVector.from_mapping({1: 1.0, 9: 1.0}), SparseVector.from_mapping({9: 1.0, 4: 1.0})


@pytest.mark.parametrize(
    ("stored", "made", "by_length", "cosine"),
    [
        (AXIS, TWICE, False, 1), (AXIS, TWICE, True, 0.8), (AXIS, OTHER, False, 0),
        (ONE, ONE, True, 1), (ONE, TWO, True, 0.5), (NONE, NONE, True, 1), (NONE, ONE, True, 0),
        (TOKENS, TOKENS[:2], True, 0), (TOKENS, ONE, True, 0),
    ],
)  # fmt: skip
def test_likeness_is_the_cosine_over_all_terms_and_counts_lengths_where_they_are_kept(
    stored: Any, made: Any, by_length: bool, cosine: float
) -> None:
    assert likeness_of([stored], [made], by_length=by_length).values.tolist() == pytest.approx([cosine])


@pytest.mark.parametrize(("alien", "fits"), [(0, True), (3, True), (4, False)])
def test_a_few_alien_points_of_sixty_four_are_borne(alien: int, fits: bool) -> None:
    values = np.ones(64, np.float32)
    values[:alien] = 0.5
    likeness = Likeness(values)
    assert (likeness.fits, likeness.foreign) == (fits, list(range(alien)))
    empty = Likeness(np.zeros(0, np.float32))
    assert (empty.fits, empty.median, empty.lowest) == (False, 0.0, 0.0)
