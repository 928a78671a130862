"""What a swap costs: each encoder is loaded once, and nothing is encoded twice that need not be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import pytest
from qdrant_client.client_base import QdrantBase

from diptych import AdapterSpec, Collection, hookimpl
from diptych.config.models import Config
from diptych.swap import ApplyOptions
from diptych.testing.fakes import FakeCalibratedEncoder, FakeDenseEncoder
from diptych.types import Document, Floats
from swaps import Open

Make: TypeAlias = Callable[..., Config]


class CountedDense(FakeDenseEncoder):
    """Counts the encoders that are made, by seed, and how often each encodes a document."""

    made: ClassVar[Counter[int]] = Counter()
    documents: ClassVar[Counter[tuple[int, str]]] = Counter()

    def __init__(self, *, seed: int = 0, model: str = "") -> None:
        super().__init__(dimension=16, seed=seed)
        self.seed = seed
        self.made[seed] += 1

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """As the fake."""
        self.documents.update((self.seed, text) for text in inputs)
        return super().encode_document(inputs)


class CountedWords(FakeCalibratedEncoder):
    """Counts the encoders that are made."""

    made: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.made["words"] += 1


class Counted:
    """A plugin that brings them."""

    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        """An adapter for each."""
        dense, words = (f"{__name__}:{made.__name__}" for made in (CountedDense, CountedWords))
        return [
            AdapterSpec(name="counted", kind="dense", factory=dense, summary="counted"),
            AdapterSpec(name="counted-words", kind="sparse", factory=words, summary="counted"),
        ]


OLD: dict[str, Any] = {"dense": {"adapter": "counted"}, "words": {"adapter": "counted-words"}}
NEW: dict[str, Any] = {**OLD, "dense": {"adapter": "counted", "seed": 1}}
DOCUMENTS = [Document(str(n), f"word{n % 17} word{n % 23} number{n}") for n in range(100)]


@pytest.fixture
def filled(memory: QdrantBase, config: Make, opened: Open) -> Callable[[], Collection]:
    """The collection as a command opens it, with all counts at zero."""
    opened(memory, config(OLD), Counted).populate(DOCUMENTS)

    def again() -> Collection:
        for counter in (CountedDense.made, CountedDense.documents, CountedWords.made):
            counter.clear()
        return opened(memory, None, Counted)

    return again


def dense(**more: Any) -> dict[str, Any]:
    return {**OLD, "dense": {**OLD["dense"], **more}}


STUDENT = {"student": "near", "adapter": "counted", "seed": 7}
CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[int, int]]] = {
    "another encoder": (NEW, {}, {0: 1, 1: 1}),
    "another number format": (dense(storage={"datatype": "float16"}), {}, {0: 1}),
    "another place": (dense(storage={"on_disk": True}), {}, {0: 1}),
    "search settings": (OLD, {"search": {"fuse": {"kind": "rrf", "k": 5}}}, {0: 1}),
    "a student": (dense(query=STUDENT), {}, {0: 1, 7: 1}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_plan_and_apply_load_each_encoder_once(filled: Callable[[], Collection], config: Make, change: str) -> None:
    slots, sections, made = CHANGES[change]
    collection, wanted = filled(), config(slots, **sections)
    collection.handle.keep_candidates()
    collection.plan(wanted, sample=0)  # as the command shows it first
    assert collection.apply(wanted, ApplyOptions(ignore_gate=True)).outcome in ("cut over", "changed settings")
    assert CountedDense.made == made
    assert CountedWords.made == {"words": 1}


def test_what_a_plan_has_encoded_is_not_encoded_again(
    filled: Callable[[], Collection], config: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    collection, wanted = filled(), config(NEW)
    collection.plan(wanted, sample=64)
    sampled = {text for _, text in CountedDense.documents} & {document.text for document in DOCUMENTS}
    assert len(sampled) == 64
    CountedDense.documents.clear()
    assert collection.apply(wanted).cache_hits == {"dense.2": 64}
    assert not sampled & {text for _, text in CountedDense.documents}
