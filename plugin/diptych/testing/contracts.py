"""Contract classes for pytest: subclass one, override its one fixture, and the checks run as tests.

    class TestMyEncoder(DenseEncoderContract):
        @pytest.fixture(scope="class")  # made once, not for each test
        @classmethod
        def encoder(cls):
            return MyEncoder()

Inputs and tolerances are class attributes; see `diptych.testing.checks.Conditions` for what they mean.
"""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from diptych.protocols import Kind
from diptych.testing.checks import Check, Conditions, Known, Triple, checks_of


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
    modality: ClassVar[str] = "text"
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

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each check of the kind, called as the check is."""
        if "check" in metafunc.fixturenames:
            checks = checks_of(Conditions(kind=self.kind, modality=self.modality))
            metafunc.parametrize("check", checks, ids=lambda check: check.__name__.removeprefix("check_"))


def _run(check: Check, adapter: Any, conditions: Conditions) -> None:
    if reason := check(adapter, conditions):
        pytest.skip(reason)


class EncoderContract(AdapterContract):
    """The tests of every encoder. Override `encoder`."""

    @pytest.fixture
    def encoder(self) -> Any:
        """The encoder to be tested, ready to encode: calibrated, if it needs that."""
        pytest.fail(f"{type(self).__name__} must override the fixture `encoder`")

    def test_contract(self, check: Check, encoder: Any, conditions: Conditions) -> None:
        """The encoder passes one check."""
        _run(check, encoder, conditions)


class DenseEncoderContract(EncoderContract):
    """The tests of a DenseEncoder. Override the fixture `encoder`."""

    kind: ClassVar[Kind] = "dense"


class MultiVectorEncoderContract(EncoderContract):
    """The tests of a MultiVectorEncoder. Override the fixture `encoder`."""

    kind: ClassVar[Kind] = "multivector"


class SparseEncoderContract(EncoderContract):
    """The tests of a SparseEncoder. Override the fixture `encoder`."""

    kind: ClassVar[Kind] = "sparse"


class MediaEncoderContract(EncoderContract):
    """The tests of an encoder of media, whatever vectors it makes. Override `encoder`, and set `modality`."""

    kind: ClassVar[Kind] = "dense"
    modality: ClassVar[str] = "image"


class RerankerContract(AdapterContract):
    """The tests of a Reranker. Override the fixture `reranker`."""

    kind: ClassVar[Kind] = "reranker"

    @pytest.fixture
    def reranker(self) -> Any:
        """The reranker to be tested."""
        pytest.fail(f"{type(self).__name__} must override the fixture `reranker`")

    def test_contract(self, check: Check, reranker: Any, conditions: Conditions) -> None:
        """The reranker passes one check."""
        _run(check, reranker, conditions)


class TextIndexContract(AdapterContract):
    """The tests of a TextIndex. Override the fixture `text_index`."""

    kind: ClassVar[Kind] = "text_index"

    @pytest.fixture
    def text_index(self) -> Any:
        """The text index to be tested."""
        pytest.fail(f"{type(self).__name__} must override the fixture `text_index`")

    def test_contract(self, check: Check, text_index: Any, conditions: Conditions) -> None:
        """The text index passes one check."""
        _run(check, text_index, conditions)
