"""Canaries that passed are not encoded again while the encoder says that it is the very one, and only then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import FingerprintMismatch
from diptych.metadata.models import Generation
from diptych.runtime import passed_checks
from diptych.slots import guard
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Floats


class Counting(FakeDenseEncoder):
    """A fake that counts its calls and says who it is."""

    def __init__(self, identity: str, **options: Any) -> None:
        super().__init__(**options)
        self.identity, self.times = identity, 0

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        self.times += 1
        return super().encode_query(inputs)


@pytest.fixture(autouse=True)
def _memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(passed_checks.VARIABLE)


def generation(encoder: Any, **more: Any) -> Generation:
    space, numerics = encoder.fingerprint.space, encoder.fingerprint.numerics
    canaries = guard.record_canaries(encoder, "dense", where="test")
    facts = {"space": space, "numerics": numerics, "canaries": canaries} | more
    return Generation(number=1, vector="x.1", kind="dense", adapter="a", options={}, **facts)


def checks(encoder: Counting, made: Generation, *, remembered: bool = True) -> guard.Likeness:
    return guard.check(encoder, encoder.fingerprint, made, where="x", reuse=remembered)


def test_the_very_same_encoder_encodes_its_canaries_once() -> None:
    made = generation(FakeDenseEncoder())
    first, second = Counting("one"), Counting("one")
    assert checks(first, made) == checks(second, made)
    assert (first.times, second.times) == (1, 0)
    assert checks(second, made, remembered=False).lowest == 1.0
    assert second.times == 1


@pytest.mark.parametrize("identity", ["", "another"])
def test_another_encoder_encodes_them_again(identity: str) -> None:
    made = generation(FakeDenseEncoder())
    checks(Counting("one"), made)
    other = Counting(identity)
    for _ in range(2):
        checks(other, made)
    assert other.times == (1 if identity else 2)


def test_other_canaries_are_compared_again() -> None:
    fake = FakeDenseEncoder()
    made, then = generation(fake), Counting("one")
    checks(then, made)
    recorded = made.canaries
    assert recorded is not None
    forged = recorded.model_copy(update={"query": [*recorded.query[1:], recorded.query[0]]})
    with pytest.raises(FingerprintMismatch, match="no longer makes the vectors it made"):
        checks(then, made.model_copy(update={"canaries": forged}))


def test_a_failed_check_is_not_remembered() -> None:
    made = generation(FakeDenseEncoder())
    recorded = made.canaries
    assert recorded is not None
    forged = made.model_copy(update={"canaries": recorded.model_copy(update={"query": recorded.query[::-1]})})
    encoder = Counting("one")
    for _ in range(2):
        with pytest.raises(FingerprintMismatch):
            checks(encoder, forged)
    assert encoder.times == 2


def test_another_fingerprint_is_refused_whatever_is_remembered() -> None:
    encoder = Counting("one")
    made = generation(FakeDenseEncoder())
    checks(encoder, made)
    with pytest.raises(FingerprintMismatch, match="another encoder"):
        checks(encoder, made.model_copy(update={"space": "another"}))
