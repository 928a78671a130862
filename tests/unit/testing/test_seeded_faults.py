"""Each fault that authors make, built into a healthy fake, is caught by the check that is named for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest
from numpy.typing import NDArray
from qdrant_client import models

from diptych.protocols import Kind, Pair
from diptych.testing import (
    ConformanceFailure,
    FakeCalibratedEncoder,
    FakeDenseEncoder,
    FakeMultiVectorEncoder,
    FakeReranker,
    FakeSparseEncoder,
)
from diptych.testing.checks import Conditions
from diptych.testing.checks.conditions import CHECKS
from diptych.testing.checks.encoders import (
    check_declared_facts,
    check_dimension,
    check_known_vectors,
    check_order,
    check_queries_find_documents,
    check_sibling_documents,
)
from diptych.testing.checks.other_kinds import check_index_params, check_text_query
from diptych.testing.fakes import word_id
from diptych.types import Floats, SparseVector

Spoil: TypeAlias = Callable[[Any, Any], Any]
SYNONYMS = {"feline": "cat", "nutrition": "food"}
DIRECTED = ("cat food", "feline nutrition", "food blender for soup and bread")  # ranked right only the right way round


class Spoilt:
    """A fake whose answers pass through `spoil(answer, inputs)`, on the sides that are named in `sides`."""

    def __init__(self, healthy: Any, spoil: Spoil) -> None:
        self._healthy, self._spoil = healthy, spoil
        self.sides = {"query", "document"}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._healthy, name)

    def encode_query(self, inputs: Sequence[str]) -> Any:
        found = self._healthy.encode_query(inputs)
        return self._spoil(found, inputs) if "query" in self.sides else found

    def encode_document(self, inputs: Sequence[str]) -> Any:
        found = self._healthy.encode_document(inputs)
        return self._spoil(found, inputs) if "document" in self.sides else found


class SpoiltReranker(FakeReranker):
    """A fake reranker whose scores pass through `spoil(scores, pairs)`."""

    def __init__(self, spoil: Spoil) -> None:
        super().__init__()
        self._spoil = spoil

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        return self._spoil(super().predict(pairs), pairs)  # type: ignore[no-any-return]


class LengthInWords(FakeReranker):
    max_length: Any = "512 words"


class Swapped(FakeDenseEncoder):
    """Queries are encoded as documents, and documents as queries."""

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        return super().encode_document(inputs)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        return FakeDenseEncoder.encode_query(self, inputs)


class OneSided(FakeDenseEncoder):
    """Queries are encoded as documents, and documents too."""

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        return super().encode_document(inputs)


class IdsForWords(FakeSparseEncoder):
    """Decodes terms to their ids."""

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        words = super().decode(vector, top_k)
        return [(word_id(word, self.dimension), weight) for word, weight in words]  # type: ignore[misc]


class AveragingMeasure(FakeCalibratedEncoder):
    """Measures a mean, which does not add up."""

    def measure(self, inputs: Sequence[str]) -> dict[str, float]:
        sums = super().measure(inputs)
        return {**sums, "tokens": sums["tokens"] / sums["documents"]}


class Misjudges(FakeDenseEncoder):
    """Reads 20 words of a document, and says another number."""

    def __init__(self, says: int) -> None:
        super().__init__(max_tokens=20)
        self._part, self.max_tokens = FakeDenseEncoder(max_tokens=20).read_part, says

    def read_part(self, text: str) -> str:
        return self._part(text)


class CountsBytes(FakeDenseEncoder):
    """Gives the places of tokens in the bytes of a text."""

    def token_spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        found = zip(inputs, super().token_spans(inputs), strict=True)
        return [
            np.array([[len(text[:place].encode()) for place in span] for span in spans], np.int32).reshape(-1, 2)
            for text, spans in found
        ]


class Noise:
    """Another small shift on each call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, found: Floats, inputs: Any) -> Floats:
        self.calls += 1
        return found + np.float32(1e-3 * self.calls)


def by_length(found: Floats, inputs: Sequence[str]) -> Floats:
    return found[sorted(range(len(inputs)), key=lambda n: len(inputs[n]))]


def nan_for_one_letter(found: Floats, inputs: Sequence[str]) -> Floats:
    return np.where([[len(text) == 1] for text in inputs], np.float32(np.nan), found) if inputs else found


def first_words(found: Floats, inputs: Sequence[str]) -> Floats:
    assert all(text.split()[0] for text in inputs)
    return found


def sorts_the_callers_list(found: Floats, inputs: list[str]) -> Floats:
    inputs.sort()
    return found


def reversed_indices(found: list[SparseVector], inputs: Any) -> list[SparseVector]:
    return [SparseVector(vector.indices[::-1], vector.values[::-1]) for vector in found]


def negative_weights(found: list[SparseVector], inputs: Any) -> list[SparseVector]:
    return [
        SparseVector(vector.indices, np.where(vector.values > 1, -vector.values, vector.values)) for vector in found
    ]


def beyond_the_dimension(found: list[SparseVector], inputs: Any) -> list[SparseVector]:
    return [SparseVector(vector.indices + np.uint32(2**20), vector.values) for vector in found]


def no_tokens_for_one_letter(found: list[Floats], inputs: Sequence[str]) -> list[Floats]:
    return [vector[: len(text) - 1] for text, vector in zip(inputs, found, strict=True)]


def dense(spoil: Spoil, **options: Any) -> Spoilt:
    return Spoilt(FakeDenseEncoder(**options), spoil)


def sparse(spoil: Spoil) -> Spoilt:
    return Spoilt(FakeSparseEncoder(), spoil)


def calibrated(encoder: FakeCalibratedEncoder) -> FakeCalibratedEncoder:
    encoder.calibrate({"documents": 1.0, "tokens": 5.0})
    return encoder


FAULTS: list[tuple[str, Kind, Callable[[], Any], str]] = [
    ("wrong dimension", "dense", lambda: dense(lambda found, _: found[:, :-1]), "check_dimension"),
    ("wrong order", "dense", lambda: dense(by_length), "check_order"),
    ("NaN", "dense", lambda: dense(nan_for_one_letter), "check_finite"),
    ("non-deterministic", "dense", lambda: dense(Noise()), "check_deterministic"),
    ("batch-dependent", "dense", lambda: dense(lambda found, n: found * (1 + len(n))), "check_batch_independent"),
    ("unnormalised though declared", "dense", lambda: dense(lambda found, _: found * 2), "check_normalized"),
    ("unsorted sparse indices", "sparse", lambda: sparse(reversed_indices), "check_terms"),
    ("negative sparse weight", "sparse", lambda: sparse(negative_weights), "check_terms"),
    ("empty input crash", "dense", lambda: dense(first_words), "check_odd_texts"),
    ("query/document mix-up", "dense", lambda: Swapped(expand=SYNONYMS), "check_queries_find_documents"),
    ("float64", "dense", lambda: dense(lambda found, _: found.astype(np.float64)), "check_float32"),
    ("sorts its output", "reranker", lambda: SpoiltReranker(lambda s, _: np.sort(s)[::-1]), "check_scores_in_order"),
    ("a member is missing", "sparse", FakeDenseEncoder, "check_declared_facts"),
    ("a dimension of 0", "dense", lambda: FakeDenseEncoder(dimension=0), "check_declared_facts"),
    ("crash on an empty batch", "dense", lambda: dense(lambda found, _: np.stack(list(found))), "check_empty_batch"),
    ("an empty list for no inputs", "dense", lambda: dense(lambda f, n: f if n else []), "check_empty_batch"),
    ("a vector is lost", "dense", lambda: dense(lambda found, _: found[1:]), "check_dimension"),
    (
        "a long text fails",
        "dense",
        lambda: dense(lambda f, n: f * (max(map(len, n)) < 900 or np.nan)),
        "check_odd_texts",
    ),
    ("the caller's list is sorted", "dense", lambda: dense(sorts_the_callers_list), "check_inputs_kept"),
    ("one side for both", "dense", lambda: OneSided(expand=SYNONYMS), "check_sides_as_declared"),
    (
        "nonsense vectors",
        "dense",
        lambda: dense(lambda f, n: f[::-1] if len(n) == 2 else f),
        "check_queries_find_documents",
    ),
    ("no tokens", "multivector", lambda: Spoilt(FakeMultiVectorEncoder(), no_tokens_for_one_letter), "check_dimension"),
    ("a dense multi-vector", "multivector", FakeDenseEncoder, "check_dimension"),
    ("a term out of range", "sparse", lambda: sparse(beyond_the_dimension), "check_terms"),
    ("mappings for vectors", "sparse", lambda: sparse(lambda f, _: [{1: 0.5} for _ in f]), "check_terms"),
    ("decodes to nothing readable", "sparse", IdsForWords, "check_decode"),
    ("measures do not add up", "sparse", lambda: calibrated(AveragingMeasure()), "check_measures_add_up"),
    ("float64 scores", "reranker", lambda: SpoiltReranker(lambda s, _: s.astype(np.float64)), "check_scores"),
    (
        "scores are ranks",
        "reranker",
        lambda: SpoiltReranker(lambda s, _: s.argsort() * 1.0),
        "check_scores_independent",
    ),
    ("scores wander", "reranker", lambda: SpoiltReranker(Noise()), "check_scores_repeat"),
    ("crash on no pairs", "reranker", lambda: SpoiltReranker(lambda s, n: s + len(n[0])), "check_scores"),
    ("NaN for empty text", "reranker", lambda: SpoiltReranker(lambda s, n: s / len(n[0][1])), "check_odd_pairs"),
    ("lower is better", "reranker", lambda: SpoiltReranker(lambda s, _: -s), "check_relevant_scores_higher"),
    ("max_length is a text", "reranker", LengthInWords, "check_reranker_facts"),
    ("reads less than it says", "dense", lambda: Misjudges(30), "check_token_limit"),
    ("reads one word less than it says", "dense", lambda: Misjudges(21), "check_token_limit"),
    ("reads more than it says", "dense", lambda: Misjudges(19), "check_token_limit"),
    ("tokens lie beyond the text", "dense", CountsBytes, "check_token_limit"),
    ("no text index", "text_index", FakeReranker, "check_index_params"),
]
SIDED = [row for row in FAULTS[:12] if isinstance(row[2](), Spoilt)]
HEALTHY: list[tuple[Kind, Callable[[], Any]]] = [
    ("dense", FakeDenseEncoder),
    ("dense", lambda: FakeDenseEncoder(expand=SYNONYMS, similarity="dot", normalized=False)),
    ("dense", lambda: FakeDenseEncoder(query_prompt="query:", document_prompt="passage:", similarity="euclidean")),
    ("dense", lambda: FakeDenseEncoder(max_tokens=20, document_prompt="passage:", query_prompt="query:")),
    ("sparse", FakeSparseEncoder),
    ("sparse", lambda: FakeSparseEncoder(max_tokens=20)),
    ("multivector", lambda: FakeMultiVectorEncoder(max_tokens=20)),
    ("sparse", lambda: FakeSparseEncoder(expand=SYNONYMS)),
    ("sparse", lambda: calibrated(FakeCalibratedEncoder())),
    ("multivector", FakeMultiVectorEncoder),
    ("multivector", lambda: FakeMultiVectorEncoder(expand=SYNONYMS)),
    ("reranker", FakeReranker),
]


def conditions_of(kind: Kind, adapter: Any) -> Conditions:
    standard = Conditions(kind=kind)
    directed = bool(getattr(adapter, "expand", None))
    return replace(standard, triples=(*standard.triples, DIRECTED)) if directed else standard


def failures(kind: Kind, make: Callable[[], Any]) -> dict[str, str]:
    """The checks that fail, by name, with their text."""
    found = {}
    for check in CHECKS[kind]:
        adapter = make()
        try:
            check(adapter, conditions_of(kind, adapter))
        except ConformanceFailure as failure:
            found[failure.check] = str(failure)
    return found


@pytest.mark.parametrize(("fault", "kind", "make", "check"), FAULTS, ids=[row[0] for row in FAULTS])
def test_each_fault_is_caught_by_its_check(fault: str, kind: Kind, make: Callable[[], Any], check: str) -> None:
    assert check in failures(kind, make)


@pytest.mark.parametrize("side", ["query", "document"])
@pytest.mark.parametrize(("kind", "make", "check"), [row[1:] for row in SIDED], ids=[row[0] for row in SIDED])
def test_a_fault_of_one_side_is_caught_too(kind: Kind, make: Callable[[], Any], check: str, side: str) -> None:
    def one_sided() -> Any:
        adapter = make()
        adapter.sides = {side}
        return adapter

    assert check in failures(kind, one_sided)


@pytest.mark.parametrize(("kind", "make"), HEALTHY)
def test_healthy_adapters_pass_every_check(kind: Kind, make: Callable[[], Any]) -> None:
    assert failures(kind, make) == {}


def test_every_check_catches_one_of_the_faults() -> None:
    caught = {row[3] for row in FAULTS} | {
        "check_known_vectors",
        "check_text_query",
        "check_sibling_documents",
    }
    assert caught == {check.__name__ for checks in CHECKS.values() for check in checks}


def test_a_failure_names_the_check_both_numbers_and_the_cause() -> None:
    with pytest.raises(ConformanceFailure, match=r"check_dimension: .*\n  got: shape \[63\]\n  expected: 64") as caught:
        check_dimension(dense(lambda found, _: found[:, :-1]), Conditions(kind="dense"))
    assert (caught.value.check, isinstance(caught.value, AssertionError)) == ("check_dimension", True)
    with pytest.raises(ConformanceFailure, match="encode_query raised\n  where: 6 inputs") as caught:
        check_order(FakeDenseEncoder(fail_on_call=1), Conditions(kind="dense"))
    assert "call 1 fails" in str(caught.value.__cause__)
    with pytest.raises(ConformanceFailure, match=r"got: FakeReranker\n  expected: diptych\.DenseEncoder"):
        check_declared_facts(FakeReranker(), Conditions(kind="dense"))


def test_swapped_sides_are_told_by_a_directed_triple_or_by_known_vectors() -> None:
    directed = Conditions(kind="dense", triples=(DIRECTED,))
    check_queries_find_documents(FakeDenseEncoder(expand=SYNONYMS), directed)
    with pytest.raises(ConformanceFailure, match="are encode_query and encode_document mixed up"):
        check_queries_find_documents(Swapped(expand=SYNONYMS), directed)
    prompts = {"query_prompt": "query:", "document_prompt": "passage:"}
    healthy, swapped = FakeDenseEncoder(**prompts), Swapped(**prompts)  # type: ignore[arg-type]
    first = tuple(healthy.encode_query(["audio"])[0, :4].tolist())
    known = Conditions(kind="dense", known=(("query", "audio", first),))
    check_known_vectors(healthy, known)
    with pytest.raises(ConformanceFailure, match=r"encode_query\('audio'\) is not the known vector"):
        check_known_vectors(swapped, known)


@pytest.mark.parametrize(("says", "passes"), [("always the same", False), ("", True)])
def test_a_text_index_must_ask_for_the_text(says: str, passes: bool) -> None:
    class Words:
        def index_params(self) -> models.TextIndexParams:
            return models.TextIndexParams(type=models.TextIndexType.TEXT)

        def query(self, text: str) -> models.TextQuery:
            return models.TextQuery(text=says or text)

    conditions = Conditions(kind="text_index")
    check_index_params(Words(), conditions)
    with nullcontext() if passes else pytest.raises(ConformanceFailure, match="depends on the text alone"):
        check_text_query(Words(), conditions)


@pytest.mark.parametrize(
    ("sibling", "text"),
    [
        (FakeDenseEncoder(document_prompt="passage:"), "do not say that queries alone differ"),
        (FakeDenseEncoder(), "do not say that queries alone differ"),
        (FakeSparseEncoder(), "do not say that queries alone differ"),
        (Spoilt(FakeDenseEncoder(query_prompt="query:"), lambda found, _: -found), "and their vectors differ"),
    ],
    ids=["other documents", "the same", "undeclared", "declared but different"],
)
def test_a_sibling_that_differs_in_more_than_queries_is_caught(sibling: Any, text: str) -> None:
    with pytest.raises(ConformanceFailure, match=f"check_sibling_documents: .*{text}"):
        check_sibling_documents(FakeDenseEncoder(), Conditions(kind="dense", sibling=sibling))
