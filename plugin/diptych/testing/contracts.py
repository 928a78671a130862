"""Contract classes for pytest: subclass one, override its one fixture, and the checks run as tests.

    class TestMyEncoder(DenseEncoderContract):
        @pytest.fixture(scope="class")  # made once, not for each test
        @classmethod
        def encoder(cls):
            return MyEncoder()

Inputs and tolerances are class attributes; see `diptych.testing.checks.Conditions` for what they mean.
"""

# ruff: noqa: D102 - each test is the check of its name, whose docstring says what it demands.

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from diptych.protocols import Kind, TokenLimit
from diptych.testing import checks
from diptych.testing.checks import Conditions, Known, Triple


class AdapterContract:
    """What all contract classes share."""

    kind: ClassVar[Kind]
    texts: ClassVar[tuple[str, ...]] = Conditions(kind="dense").texts
    triples: ClassVar[tuple[Triple, ...]] = Conditions(kind="dense").triples
    known: ClassVar[tuple[Known, ...]] = ()
    repeat_tolerance: ClassVar[float] = 1e-6
    batch_tolerance: ClassVar[float] = 1e-4
    norm_tolerance: ClassVar[float] = 1e-3
    known_tolerance: ClassVar[float] = 1e-3
    normalized: ClassVar[bool | None] = None
    asymmetric: ClassVar[bool | None] = None
    modality: ClassVar[str] = "image"
    takes_texts: ClassVar[bool] = False

    @pytest.fixture
    def sibling(self) -> Any:
        """An encoder that differs from the tested one in its queries alone; None when there is none."""
        return None

    @pytest.fixture
    def conditions(self, sibling: Any) -> Conditions:
        """The class attributes as the checks take them."""
        names = Conditions.__dataclass_fields__.keys() - {"sibling"}
        return Conditions(**{name: getattr(self, name) for name in names}, sibling=sibling)


class EncoderContract(AdapterContract):
    """The tests of every encoder. Override `encoder`."""

    @pytest.fixture
    def encoder(self) -> Any:
        """The encoder to be tested, ready to encode: calibrated, if it needs that."""
        pytest.fail(f"{type(self).__name__} must override the fixture `encoder`")

    def test_declared_facts(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_declared_facts(encoder, conditions)

    def test_dimension(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_dimension(encoder, conditions)

    def test_float32(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_float32(encoder, conditions)

    def test_finite(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_finite(encoder, conditions)

    def test_order(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_order(encoder, conditions)

    def test_deterministic(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_deterministic(encoder, conditions)

    def test_batch_independent(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_batch_independent(encoder, conditions)

    def test_inputs_kept(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_inputs_kept(encoder, conditions)

    def test_empty_batch(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_empty_batch(encoder, conditions)

    def test_empty_text(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_empty_text(encoder, conditions)

    def test_odd_texts(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_odd_texts(encoder, conditions)

    def test_sides_as_declared(self, encoder: Any, conditions: Conditions) -> None:
        if conditions.declared(encoder, "asymmetric") is None:
            pytest.skip("the encoder does not say whether it is `asymmetric`")
        checks.check_sides_as_declared(encoder, conditions)

    def test_queries_find_documents(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_queries_find_documents(encoder, conditions)
        if conditions.declared(encoder, "asymmetric") and not checks.can_tell_sides(encoder, conditions):
            pytest.skip(
                "passed, but swapped sides would pass too: add a triple or `known` vectors that tell them apart"
            )

    def test_known_vectors(self, encoder: Any, conditions: Conditions) -> None:
        if not conditions.known:
            pytest.skip("no `known` vectors")
        checks.check_known_vectors(encoder, conditions)

    def test_sibling_documents(self, encoder: Any, conditions: Conditions) -> None:
        if conditions.sibling is None:
            pytest.skip("no `sibling` that differs in queries alone")
        checks.check_sibling_documents(encoder, conditions)

    def test_token_limit(self, encoder: Any, conditions: Conditions) -> None:
        if not isinstance(encoder, TokenLimit):
            pytest.skip("the encoder does not say how much it reads")
        checks.check_token_limit(encoder, conditions)


class NormalizedContract(EncoderContract):
    """The test of encoders that may declare `normalized`."""

    def test_normalized(self, encoder: Any, conditions: Conditions) -> None:
        if not conditions.declared(encoder, "normalized"):
            pytest.skip("the encoder does not declare `normalized`")
        checks.check_normalized(encoder, conditions)


class DenseEncoderContract(NormalizedContract):
    """The tests of a DenseEncoder. Override the fixture `encoder`."""

    kind: ClassVar[Kind] = "dense"


class MultiVectorEncoderContract(NormalizedContract):
    """The tests of a MultiVectorEncoder. Override the fixture `encoder`."""

    kind: ClassVar[Kind] = "multivector"


class SparseEncoderContract(EncoderContract):
    """The tests of a SparseEncoder. Override the fixture `encoder`."""

    kind: ClassVar[Kind] = "sparse"

    def test_indices_ascending(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_indices_ascending(encoder, conditions)

    def test_indices_in_range(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_indices_in_range(encoder, conditions)

    def test_weights_not_negative(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_weights_not_negative(encoder, conditions)

    def test_decode(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_decode(encoder, conditions)

    def test_measures_add_up(self, encoder: Any, conditions: Conditions) -> None:
        checks.check_measures_add_up(encoder, conditions)


class MediaEncoderContract(AdapterContract):
    """The tests of an encoder of media, whatever vectors it makes. Override `encoder`, and set `modality`."""

    kind: ClassVar[Kind] = "dense"

    @pytest.fixture
    def encoder(self) -> Any:
        """The encoder to be tested."""
        pytest.fail(f"{type(self).__name__} must override the fixture `encoder`")

    @pytest.mark.parametrize("check", checks.MEDIA_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
    def test_media(self, check: Any, encoder: Any, conditions: Conditions) -> None:
        if check is checks.check_texts_beside_media and not self.takes_texts:
            pytest.skip("the encoder does not say that queries may be texts: `takes_texts`")
        check(encoder, conditions)


class RerankerContract(AdapterContract):
    """The tests of a Reranker. Override the fixture `reranker`."""

    kind: ClassVar[Kind] = "reranker"

    @pytest.fixture
    def reranker(self) -> Any:
        """The reranker to be tested."""
        pytest.fail(f"{type(self).__name__} must override the fixture `reranker`")

    def test_facts(self, reranker: Any, conditions: Conditions) -> None:
        checks.check_reranker_facts(reranker, conditions)

    def test_scores(self, reranker: Any, conditions: Conditions) -> None:
        checks.check_scores(reranker, conditions)

    def test_scores_in_order(self, reranker: Any, conditions: Conditions) -> None:
        checks.check_scores_in_order(reranker, conditions)

    def test_scores_repeat(self, reranker: Any, conditions: Conditions) -> None:
        checks.check_scores_repeat(reranker, conditions)

    def test_scores_independent(self, reranker: Any, conditions: Conditions) -> None:
        if not reranker.independent:
            pytest.skip("the reranker declares that scores depend on the other pairs")
        checks.check_scores_independent(reranker, conditions)

    def test_no_pairs(self, reranker: Any, conditions: Conditions) -> None:
        checks.check_no_pairs(reranker, conditions)

    def test_odd_pairs(self, reranker: Any, conditions: Conditions) -> None:
        checks.check_odd_pairs(reranker, conditions)

    def test_relevant_scores_higher(self, reranker: Any, conditions: Conditions) -> None:
        checks.check_relevant_scores_higher(reranker, conditions)


class TextIndexContract(AdapterContract):
    """The tests of a TextIndex. Override the fixture `text_index`."""

    kind: ClassVar[Kind] = "text_index"

    @pytest.fixture
    def text_index(self) -> Any:
        """The text index to be tested."""
        pytest.fail(f"{type(self).__name__} must override the fixture `text_index`")

    def test_index_params(self, text_index: Any, conditions: Conditions) -> None:
        checks.check_index_params(text_index, conditions)

    def test_query(self, text_index: Any, conditions: Conditions) -> None:
        checks.check_text_query(text_index, conditions)
