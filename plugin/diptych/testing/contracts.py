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
    """What all contract classes share. Override the fixture that `subject` names."""

    kind: ClassVar[Kind]
    subject: ClassVar[str] = "encoder"
    modality: ClassVar[str] = "text"
    texts: ClassVar[tuple[str, ...]] = Conditions(kind="dense").texts
    triples: ClassVar[tuple[Triple, ...]] = Conditions(kind="dense").triples
    known: ClassVar[tuple[Known, ...]] = ()

    @pytest.fixture
    def sibling(self) -> Any:
        """An encoder that differs from the tested one in its queries alone; None when there is none."""
        return None

    @pytest.fixture
    def conditions(self, sibling: Any) -> Conditions:
        """The class attributes as the checks take them."""
        names = [name for name in Conditions.__dataclass_fields__ if name != "sibling" and hasattr(self, name)]
        return Conditions(**{name: getattr(self, name) for name in names}, sibling=sibling)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """One test for each check of the kind, called as the check is."""
        if "check" in metafunc.fixturenames:
            checks = checks_of(Conditions(kind=self.kind, modality=self.modality))
            metafunc.parametrize("check", checks, ids=lambda check: check.__name__.removeprefix("check_"))

    def test_contract(self, check: Check, conditions: Conditions, request: pytest.FixtureRequest) -> None:
        """The adapter passes one check."""
        try:
            adapter = request.getfixturevalue(self.subject)
        except pytest.FixtureLookupError:
            pytest.fail(f"{type(self).__name__} must override the fixture `{self.subject}`")
        if reason := check(adapter, conditions):
            pytest.skip(reason)


class DenseEncoderContract(AdapterContract):
    """The tests of a DenseEncoder. Override the fixture `encoder`: ready to encode, calibrated if it needs that."""

    kind: ClassVar[Kind] = "dense"


class MultiVectorEncoderContract(AdapterContract):
    """The tests of a MultiVectorEncoder. Override the fixture `encoder`."""

    kind: ClassVar[Kind] = "multivector"


class SparseEncoderContract(AdapterContract):
    """The tests of a SparseEncoder. Override the fixture `encoder`."""

    kind: ClassVar[Kind] = "sparse"


class MediaEncoderContract(AdapterContract):
    """The tests of an encoder of media, whatever vectors it makes. Override `encoder`, and set `modality`."""

    kind: ClassVar[Kind] = "dense"
    modality: ClassVar[str] = "image"


class RerankerContract(AdapterContract):
    """The tests of a Reranker. Override the fixture `reranker`."""

    kind: ClassVar[Kind] = "reranker"
    subject: ClassVar[str] = "reranker"


class TextIndexContract(AdapterContract):
    """The tests of a TextIndex. Override the fixture `text_index`."""

    kind: ClassVar[Kind] = "text_index"
    subject: ClassVar[str] = "text_index"
