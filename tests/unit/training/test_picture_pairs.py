"""Minimal pairs of pictures: what is changed in a twin, and where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych import Document, Query, Run
from diptych.evaluate import Qrels
from diptych.media import MediaConfig, MediaStore
from diptych_experimental.minimal_pairs import MinimalPair, picture_pairs, preferences


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
