"""Encoders of media keep their contract, and each fault is caught by its check."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest

import colour_plugin
from colour_plugin import Colours
from diptych import Registry
from diptych.testing import ConformanceFailure, MediaEncoderContract
from diptych.testing.checks import Conditions, checks_of


class TestColours(MediaEncoderContract):
    takes_texts: ClassVar[bool] = True

    @pytest.fixture
    def encoder(self) -> Colours:
        return Colours()


class Faulty(Colours):
    """Colours whose result, or whose input, something happens to."""

    def __init__(self, after: Callable[[Any], Any], before: Callable[[Any], None] = lambda inputs: None) -> None:
        super().__init__()
        self.after, self.before = after, before

    def encode_query(self, inputs: Any) -> Any:
        self.before(inputs)
        return self.after(super().encode_query(inputs) if len(inputs) else np.zeros((0, self.dimension), np.float32))

    encode_document = encode_query


def darken(inputs: Any) -> None:
    for content in inputs:
        if not isinstance(content, str) and content.flags.writeable:
            content[:] = 0


FAULTS: dict[str, Faulty] = {
    "float32": Faulty(lambda made: made.astype(np.float64)),
    "batch_independent": Faulty(lambda made: made - made.mean(axis=0)),
    "media_differ": Faulty(np.ones_like),
    "deterministic": Faulty(lambda made: made + np.random.default_rng().normal(size=made.shape).astype(np.float32)),
    "media_kept": Faulty(lambda made: made, darken),
    "empty_batch": Faulty(lambda made: made[np.argmax(made)] if not len(made) else made),
    "texts_beside_media": Faulty(lambda made: np.sort(made, axis=0)),
    "dimension": Faulty(lambda made: made[:, :-1]),
    "finite": Faulty(lambda made: made * np.float32(np.nan)),
    "declared_facts": Faulty(lambda made: made),
}
FAULTS["declared_facts"].dimension = 0
CONDITIONS = Conditions(kind="dense", modality="image", takes_texts=True)


def test_each_fault_is_caught_by_its_check_of_media() -> None:
    found = {check.__name__.removeprefix("check_"): check for check in checks_of(CONDITIONS)}
    assert found.keys() == FAULTS.keys()
    for name, check in found.items():
        check(Colours(), CONDITIONS)
        with pytest.raises(ConformanceFailure, match=f"check_{name}"):
            check(FAULTS[name], CONDITIONS)


@pytest.mark.parametrize(("name", "skipped"), [("colours", 0), ("colour-words", 0), ("pitches", 1)])
def test_an_adapter_of_media_passes_the_checks_of_its_modality(name: str, skipped: int) -> None:
    registry = Registry(colour_plugin, installed=False)
    spec = registry.spec(name)
    (modality,) = (own for own in spec.accepts if own != "text")
    conditions = Conditions(kind=spec.kind, modality=modality, takes_texts="text" in spec.accepts)
    checks, encoder = checks_of(conditions), registry.create(name, {}, where=name)
    reasons = [check(encoder, conditions) for check in checks]
    assert (len(reasons), len(reasons) - reasons.count(None)) == (len(FAULTS), skipped)
