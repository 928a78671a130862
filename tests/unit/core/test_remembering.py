"""Queries that are asked again are not encoded again, and nobody gets another encoder's vector."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from diptych.config.models import SlotConfig
from diptych.hookspecs import hookimpl
from diptych.registry import Registry
from diptych.slots.encode import QueryCache, Vector
from diptych.slots.slot import Slot
from diptych.specs import AdapterSpec
from diptych.testing import FakeDenseEncoder
from diptych.types import SparseVector

OWNER = {"encoder": object(), "generation": object()}


class Lengths:
    """A text's vector is its length."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[Vector]:
        self.calls.append(list(texts))
        return list(np.array([[len(text)] for text in texts], np.float32))


def values(vectors: Sequence[Vector]) -> list[float]:
    return [float(np.asarray(vector)[0]) for vector in vectors]


def test_a_text_that_comes_again_is_not_encoded_again() -> None:
    held, encode = QueryCache(), Lengths()
    assert values(held.encode(["a", "bb", "a"], encode, size=9, **OWNER)) == [1, 2, 1]
    assert values(held.encode(["ccc", "bb", "a"], encode, size=9, **OWNER)) == [3, 2, 1]
    assert encode.calls == [["a", "bb"], ["ccc"]]


def test_those_asked_for_last_are_held() -> None:
    held, encode = QueryCache(), Lengths()
    for text in ("a", "bb", "a", "ccc", "a", "bb"):
        held.encode([text], encode, size=2, **OWNER)
        assert len(held) <= 2
    assert encode.calls == [["a"], ["bb"], ["ccc"], ["bb"]]


def test_another_owner_finds_nothing() -> None:
    held, encode = QueryCache(), Lengths()
    encoder, generation = object(), object()
    for owner in ((encoder, generation), (encoder, object()), (object(), generation)):
        held.encode(["a"], encode, size=9, encoder=owner[0], generation=owner[1])
    assert encode.calls == [["a"]] * 3


def test_what_was_made_for_an_owner_who_was_exchanged_meanwhile_is_not_held() -> None:
    held, encode, new = QueryCache(), Lengths(), {**OWNER, "encoder": object()}

    def slow(texts: Sequence[str]) -> list[Vector]:
        held.encode(["other"], encode, size=9, **new)
        return encode(texts)

    assert values(held.encode(["a"], slow, size=9, **OWNER)) == [1]
    held.encode(["a"], encode, size=9, **new)
    assert encode.calls == [["other"], ["a"], ["a"]]


def test_a_vector_cannot_be_written_to_nor_keeps_its_batch() -> None:
    held = QueryCache()
    (dense,) = held.encode(["a"], Lengths(), size=9, **OWNER)
    assert isinstance(dense, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        dense[0] = 5
    assert dense.base is None
    made = SparseVector(np.array([1], np.uint32), np.array([2], np.float32))
    (sparse,) = held.encode(["b"], lambda texts: [made], size=9, **OWNER)
    assert isinstance(sparse, SparseVector)
    with pytest.raises(ValueError, match="read-only"):
        sparse.values[0] = 5
    made.values[0] = 7
    assert sparse.values[0] == 2, "what the encoder does with its own afterwards is another thing"


def test_nothing_is_held_when_the_encoder_fails() -> None:
    held, encode = QueryCache(), Lengths()

    def failing(texts: Sequence[str]) -> list[Vector]:
        raise RuntimeError("not now")

    with pytest.raises(RuntimeError, match="not now"):
        held.encode(["a"], failing, size=9, **OWNER)
    assert values(held.encode(["a"], encode, size=9, **OWNER)) == [1]


def test_threads_may_share_one() -> None:
    held = QueryCache()
    texts = [["x" * (n % 13 + 1), "y" * (n % 7 + 1)] for n in range(400)]
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda pair: values(held.encode(pair, Lengths(), size=5, **OWNER)), texts)
        assert list(found) == [[len(one), len(other)] for one, other in texts]
    assert len(held) == 5


class Plugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        factory = "diptych.testing.fakes:FakeDenseEncoder"
        return [
            AdapterSpec(name="local", kind="dense", factory=factory, summary="x"),
            AdapterSpec(name="remote", kind="dense", factory=factory, summary="x", remote=True),
            AdapterSpec(name="images", kind="dense", factory=factory, summary="x", accepts=("text", "image")),
        ]


@pytest.mark.parametrize(
    ("adapter", "remember", "calls"), [("local", 9, 1), ("local", 0, 2), ("remote", 9, 2), ("images", 9, 2)]
)
def test_a_slot_holds_queries_unless_its_encoder_or_its_inputs_may_change(
    adapter: str, remember: int, calls: int
) -> None:
    slot = Slot("dense", SlotConfig(adapter=adapter), None, Registry(Plugin(), installed=False))
    for _ in range(2):
        (vector,) = slot.encode_queries(["a cat"], remember=remember)
        assert np.array_equal(np.asarray(vector), FakeDenseEncoder().encode_query(["a cat"])[0])
    assert slot.encoder.count == calls


def test_documents_and_others_who_encode_queries_are_not_served_from_memory() -> None:
    slot = Slot("dense", SlotConfig(adapter="local"), None, Registry(Plugin(), installed=False))
    slot.encode_queries(["a cat"], remember=9)
    slot.encode("query", ["a cat"])
    slot.encode("document", ["a cat"])
    assert [(call.side, call.inputs) for call in slot.encoder.calls] == [
        ("query", ("a cat",)), ("query", ("a cat",)), ("document", ("a cat",))
    ]  # fmt: skip
