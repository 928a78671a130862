"""Canaries packed, compared and described; which limit holds; what an error says of the change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diptych.errors import CollectionError, FingerprintMismatch
from diptych.metadata.models import Canaries, Generation
from diptych.protocols import Fingerprint
from diptych.slots import guard
from diptych.slots.canaries import EDITIONS, Likeness, likenesses, pack, texts_of
from diptych.testing.fakes import FakeDenseEncoder, FakeMultiVectorEncoder, FakeSparseEncoder
from diptych.types import SparseVector


def generation(encoder: Any, kind: Any = "dense", **more: Any) -> Generation:
    space, numerics = encoder.fingerprint.space, encoder.fingerprint.numerics
    canaries = guard.record_canaries(encoder, kind, where="test")
    facts = {"space": space, "numerics": numerics, "canaries": canaries} | more
    return Generation(number=1, vector="x.1", kind=kind, adapter="a", options={}, **facts)


def test_likeness_is_one_for_equals_and_falls_with_direction_and_length() -> None:
    packed = [pack(np.array(v, np.float32)) for v in ([1, 0], [0, 1], [2, 0], [0, 0])]
    assert likenesses(packed, packed) == (1.0, 1.0, 1.0, 1.0)
    assert likenesses(packed[:1], packed[1:2]) == (0.0,)
    assert likenesses(packed[:1], packed[2:3]) == pytest.approx([0.8])
    assert likenesses(packed[:1], packed[3:]) == (0.0,)
    assert likenesses(packed[:1], packed) == (0.0,) * 4


def test_what_is_no_number_is_alike_to_nothing() -> None:
    packed = [pack(np.array(v, np.float32)) for v in ([np.nan, 1], [1, 1], [np.inf, 1])]
    assert likenesses(packed, [packed[1]] * 3) == pytest.approx([0.0, 1.0, 0.0])


def test_sparse_vectors_are_compared_by_term_and_multi_vectors_by_their_number_too() -> None:
    one, other = (SparseVector.from_mapping(weights) for weights in ({1: 1.0, 5: 2.0}, {5: 2.0, 9: 1.0}))
    assert likenesses([pack(one)], [pack(one)]) == (1.0,)
    assert likenesses([pack(one)], [pack(other)]) == pytest.approx([0.8])
    tokens = np.eye(4, dtype=np.float32)
    assert likenesses([pack(tokens[:3])], [pack(tokens[:3])]) == pytest.approx([1.0])
    assert likenesses([pack(tokens[:3])], [pack(tokens[:2])]) == (0.0,)
    assert likenesses([pack(tokens[0])], [pack(one)]) == (0.0,)


@pytest.mark.parametrize(
    ("query", "document", "words"),
    [
        ((1.0, 1.0), (1.0, 1.0), ""),
        ((0.1, 0.1), (0.1, 0.1), "queries and documents"),
        ((0.1, 1.0), (1.0, 1.0), "queries alone"),
        ((1.0, 1.0), (0.1, 0.1), "documents alone"),
        ((1.0, 0.9), (1.0, 0.9), "queries and documents, and only in texts of 2,000 characters and more"),
        ((0.1, 0.1), (), "queries"),
    ],
)
def test_a_likeness_says_which_texts_moved(query: Any, document: Any, words: str) -> None:
    assert Likeness(query, document, ("short", "l" * 2000)).below(0.995) == words


@pytest.mark.parametrize(
    ("encoder", "kind"),
    [(FakeDenseEncoder(), "dense"), (FakeSparseEncoder(), "sparse"), (FakeMultiVectorEncoder(), "multivector")],
    ids=["dense", "sparse", "multivector"],
)
def test_an_encoder_is_like_itself_by_every_edition_of_the_texts(encoder: Any, kind: Any) -> None:
    then = generation(encoder, kind)
    assert guard.check(encoder, encoder.fingerprint, then, where="x").lowest == pytest.approx(1)
    for edition, texts in EDITIONS.items():
        query, document = (
            [pack(v) for v in getattr(encoder, f"encode_{side}")(texts)] for side in ("query", "document")
        )
        old = then.model_copy(update={"canaries": Canaries(edition=edition, query=query, document=document)})
        assert guard.compare(encoder, old, where="x").lowest == pytest.approx(1)


def test_canaries_that_do_not_say_their_edition_are_of_the_first() -> None:
    assert texts_of(Canaries(query=[], document=[]).edition) == EDITIONS[1]


def test_canaries_of_a_later_edition_are_no_other_model() -> None:
    encoder = FakeDenseEncoder()
    then = generation(encoder, canaries=Canaries(edition=99, query=["a"], document=["b"]))
    with pytest.raises(CollectionError, match=r"(?s)does not know.*edition 99.*1 or 2.*newer") as caught:
        guard.check(encoder, encoder.fingerprint, then, where="x")
    assert not isinstance(caught.value, FingerprintMismatch)


def test_an_error_names_the_parts_of_the_fingerprint_that_differ() -> None:
    encoder = FakeDenseEncoder()
    then = generation(encoder, space="weights:1 pooling:mean length:256")
    now = Fingerprint("weights:1 pooling:cls length:512")
    with pytest.raises(FingerprintMismatch, match=r"another encoder.*\n.*slot 'x'; changed: pooling, length\n"):
        guard.check(encoder, now, then, where="slot 'x'")
    assert guard.difference(Fingerprint("declared:1"), Fingerprint("declared:2")) == ""
    assert guard.difference(Fingerprint("5f3a"), Fingerprint("5f3b")) == ""


def test_an_error_names_the_side_on_which_the_vectors_moved() -> None:
    plain, prompted = FakeDenseEncoder(), FakeDenseEncoder(query_prompt="find")
    then = generation(plain, space=prompted.fingerprint.space)
    with pytest.raises(FingerprintMismatch, match=r"(?s)canary cosine 0\..*changed: queries alone \(below 0.995\)"):
        guard.check(prompted, prompted.fingerprint, then, where="slot 'x'")


def test_other_numerics_may_differ_more_but_not_as_much_as_another_model() -> None:
    class Coarse(FakeDenseEncoder):
        noise = 0.2

        def _encode(self, bags: Any) -> Any:
            vectors = super()._encode(bags)
            rng = np.random.default_rng(0)
            noisy = vectors + self.noise * rng.standard_normal(vectors.shape).astype(np.float32) / 8
            return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)

    exact, coarse = FakeDenseEncoder(), Coarse()
    then = generation(exact)
    other = Fingerprint(exact.fingerprint.space, "int8")
    assert 0.95 < guard.check(coarse, other, then, where="x").lowest < 0.99
    with pytest.raises(FingerprintMismatch, match=r"no longer makes.*\n.*below 0.995"):
        guard.check(coarse, exact.fingerprint, then, where="x")
    coarse.noise = 0.6
    with pytest.raises(FingerprintMismatch, match=r"no longer makes.*\n.*below 0.95"):
        guard.check(coarse, other, then, where="x")


class Coarse(FakeDenseEncoder):
    """A text's vector depends on how many others are encoded with it, as dynamic int8's does."""

    def _encode(self, bags: Any) -> Any:
        vectors = super()._encode(bags)
        rng = np.random.default_rng(len(bags))
        noisy = vectors + 0.15 * rng.standard_normal(vectors.shape).astype(np.float32) / 8
        return noisy / np.linalg.norm(noisy, axis=1, keepdims=True)


def test_an_encoder_whose_vectors_depend_on_the_batch_is_measured_against_its_own_noise() -> None:
    coarse, steady = generation(Coarse()), generation(FakeDenseEncoder())
    assert coarse.canaries is not None
    assert steady.canaries is not None
    assert steady.canaries.steady == 1
    assert 0.95 < coarse.canaries.steady < 0.99
    now = Fingerprint(steady.space, "numpy")
    assert guard.minimum_likeness(now, steady) == guard.MINIMUM_LIKENESS
    assert guard.minimum_likeness(now, coarse) == pytest.approx(1 - 2 * (1 - coarse.canaries.steady))
    wild = coarse.model_copy(update={"canaries": coarse.canaries.model_copy(update={"steady": 0.5})})
    assert guard.minimum_likeness(now, wild) == guard.COARSEST
