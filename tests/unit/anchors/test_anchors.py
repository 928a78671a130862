"""Anchors: chosen, read, and scored by a reranker as the vector of a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych import Registry
from diptych.errors import AdapterOptionsError, ContractError
from diptych.plugins.anchor_scores import AnchorEncoder, choose_anchors, read_anchors, reranker_space, write_anchors
from diptych.protocols import Fingerprint, Pair
from diptych.testing import fakes_plugin
from diptych.testing.fakes import FakeReranker
from diptych.types import Floats

ANCHORS = ("cat mat", "dog man", "owl night")
DOCUMENTS = ["the cat sleeps on the mat", "a dog and a man", "", "night night"]


class Unnamed:
    """A reranker without a fingerprint."""

    max_length: int | None = None

    def __init__(self, *, independent: bool = True, short: bool = False) -> None:
        self.independent, self._short = independent, short

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        return np.zeros(len(pairs) - self._short, np.float32)


def test_a_document_is_its_centred_scores_and_their_mean() -> None:
    encoder, reranker = AnchorEncoder(FakeReranker(), ANCHORS, "x"), FakeReranker()
    scores = np.array([reranker.predict([(anchor, text) for anchor in ANCHORS]) for text in DOCUMENTS])
    vectors = encoder.encode_document(DOCUMENTS)
    assert vectors.dtype == np.float32
    assert vectors.shape == (4, encoder.dimension)
    np.testing.assert_allclose(vectors[:, :-1] + vectors[:, -1:], scores, atol=1e-6)
    np.testing.assert_allclose(vectors[:, :-1].sum(axis=1), 0, atol=1e-6)


def test_a_query_without_scores_asks_for_the_highest_means() -> None:
    encoder = AnchorEncoder(FakeReranker(), ANCHORS, "x")
    means = encoder.encode_document(DOCUMENTS) @ encoder.encode_query(["whatever"])[0]
    np.testing.assert_allclose(means, encoder.encode_document(DOCUMENTS)[:, -1])


def test_no_documents_have_no_vectors() -> None:
    assert AnchorEncoder(FakeReranker(), ANCHORS, "x").encode_document([]).shape == (0, 4)


def test_many_documents_are_scored_in_calls_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diptych.plugins.anchor_scores._PAIRS", 7)
    reranker = FakeReranker()
    vectors = AnchorEncoder(reranker, ANCHORS, "x").encode_document(DOCUMENTS * 3)
    assert max(len(call.inputs) for call in reranker.calls) <= 7
    np.testing.assert_array_equal(vectors[:4], vectors[8:])


def test_the_fingerprint_is_of_the_reranker_and_of_the_anchors() -> None:
    first, other = (AnchorEncoder(FakeReranker(), own, "x").fingerprint for own in (ANCHORS, ANCHORS[::-1]))
    assert first.space.startswith("x anchors:")
    assert first.space != other.space
    assert first.numerics == "numpy"
    assert reranker_space(FakeReranker(), "fake-reranker", {}) == FakeReranker().fingerprint.space


def test_a_reranker_without_a_fingerprint_is_known_by_its_options() -> None:
    spaces = [
        reranker_space(Unnamed(), "u", options)
        for options in ({"a": 1}, {"a": 1, "anchors": {"texts": "x"}}, {"a": 2}, {})
    ]
    assert spaces[0] == spaces[1]
    assert len(set(spaces)) == 3


def test_a_reranker_that_looks_at_all_candidates_scores_no_anchors() -> None:
    with pytest.raises(AdapterOptionsError, match=r"depend on the other candidates\n.*independent = False"):
        AnchorEncoder(Unnamed(independent=False), ANCHORS, "x")


def test_a_wrong_number_of_scores_is_an_error() -> None:
    with pytest.raises(ContractError, match=r"wrong number of scores\n(.*\n)*.*got: \(2,\)"):
        AnchorEncoder(Unnamed(short=True), ANCHORS, "x").encode_document(["a"])


def test_the_choice_depends_on_texts_and_seed_alone() -> None:
    documents = [(f"title {n}", "text") for n in range(50)] + [("", "one two " * 20), ("  ", "  ")]
    chosen = choose_anchors(documents, 20, seed=0)
    assert len(set(chosen)) == 20
    assert choose_anchors([*reversed(documents), *documents], 20, seed=0) == chosen
    assert choose_anchors(documents, 20, seed=1) != chosen
    everything = choose_anchors(documents, 100, seed=0)
    assert len(everything) == 51
    assert " ".join(["one two"] * 8) in everything


def test_anchors_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "anchors.txt"
    write_anchors(path, ["eins", "zwei ä"])
    assert read_anchors(path, where="x") == ("eins", "zwei ä")
    assert [own.name for own in path.parent.iterdir()] == ["anchors.txt"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"one\n\n",
            r"number of anchors.*\n.*\n.*got: 1 in .*\n.*expected: 2 to.*\n.*or delete it",
        ),
        (b"one\ntwo\none\n", r"appears twice\n.*\n.*'one' in lines 1 and 3"),
        (b"\xff\xfe\n", r"cannot be read\n.*\n.*utf-8.*\n.*expected: a UTF-8 text file with one anchor per line"),
        (None, r"no file of anchors\n.*slot 's'\n.*a.txt\n.*to choose titles of the collection: diptych"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(AdapterOptionsError, match=message):
        read_anchors(tmp_path / "a.txt", where="slot 's'")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"anchors": {"text": "x"}}, r"no option 'anchors.text'\n(.*\n)*.*expected: texts"), ({"anchors": 3}, "anchors")],
)
def test_unusable_options_are_named(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(AdapterOptionsError, match=message):
        Registry(fakes_plugin, installed=False).create("fake-reranker", options)


def test_the_registry_makes_an_encoder_of_a_reranker_with_anchors(tmp_path: Path) -> None:
    write_anchors(tmp_path / "a.txt", ANCHORS)
    made = Registry(fakes_plugin, installed=False).create(
        "fake-reranker", {"record": False, "anchors": {"texts": str(tmp_path / "a.txt")}}
    )
    assert isinstance(made, AnchorEncoder)
    assert made.fingerprint == Fingerprint(
        AnchorEncoder(FakeReranker(), ANCHORS, FakeReranker().fingerprint.space).fingerprint.space, "numpy"
    )
