"""A space of word vectors and the same space turned, for swaps between them, with documents and judgements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.config import Config, parse_config
from diptych.evaluate import Qrels
from diptych.protocols import Fingerprint
from diptych.specs import AdapterSpec
from diptych.swap import Judged
from diptych.testing import FakeDenseEncoder
from diptych.types import Floats, Query

WIDTH = 48
WORDS = [
    f"{start}{end}" for start in ("ba", "de", "fi", "go", "lu") for end in ("nor", "mit", "sal", "tev", "rok", "pim")
]
TURN = np.linalg.qr(np.random.default_rng(5).normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)


class Turned:
    """The same space turned: no query of it finds anything in the old one, and a rotation carries all of it over."""

    dimension, similarity = WIDTH, "cosine"

    def __init__(self) -> None:
        self._inner = FakeDenseEncoder(dimension=WIDTH)

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        return np.asarray(self._inner.encode_query(inputs) @ TURN, np.float32)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        return np.asarray(self._inner.encode_document(inputs) @ TURN, np.float32)


class Pupil(FakeDenseEncoder):
    """A student of `fake-dense`: its queries are near those of its teacher; another model errs in another direction."""

    def __init__(self, *, model: str, dimension: int, seed: int = 0) -> None:
        super().__init__(dimension=dimension, seed=seed)
        self._turn = len(model)
        self.fingerprint = Fingerprint(f"pupil {model} {dimension} {seed}", "numpy")

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        exact = super().encode_query(inputs)
        near = exact + 0.05 * np.roll(exact, self._turn, axis=1)
        return np.asarray(near / np.linalg.norm(near, axis=1, keepdims=True), np.float32)


PUPIL = AdapterSpec(name="pupil", kind="dense", factory=f"{__name__}:Pupil", summary="makes queries, for tests")


def config(adapter: str, **options: Any) -> Config:
    raw = {
        "store": "memory:",
        "collection": "c",
        "slots": {"dense": {"adapter": adapter, **options}},
        "populate": {"chunk": 64},
        "swap": {"gate": {"seconds": 600}},  # a busy machine must not judge by fewer queries
    }
    return parse_config(raw)


def corpus(count: int) -> list[dict[str, str]]:
    """Documents of six words each; near neighbours share many."""
    random = np.random.default_rng(3)
    return [{"id": str(n), "text": " ".join(random.choice(WORDS, 6))} for n in range(count)]


def judged(documents: Sequence[dict[str, str]]) -> Judged:
    return Judged(
        [Query(document["text"], document["id"]) for document in documents],
        Qrels({document["id"]: {document["id"]: 1} for document in documents}),
    )
