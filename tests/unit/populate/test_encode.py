"""A slot's stage of populate."""

from __future__ import annotations

from collections.abc import Sequence

from diptych.config.models import SlotConfig
from diptych.hookspecs import hookimpl
from diptych.populate.encode import SlotEncoder, has_vector
from diptych.populate.validate import Item
from diptych.registry import Registry
from diptych.slots.slot import Slot
from diptych.specs import AdapterSpec
from diptych.testing import FakeDenseEncoder
from diptych.types import Document, Floats


class Strict(FakeDenseEncoder):
    """Fails on an empty batch, as many libraries do."""

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        if not inputs:
            raise ValueError("nothing to encode")
        return super().encode_document(inputs)


class Plugin:
    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        return [AdapterSpec(name="strict", kind="dense", factory=f"{__name__}:Strict", summary="x")]


def test_nothing_to_encode_does_not_reach_the_encoder() -> None:
    slot = Slot("dense", SlotConfig(adapter="strict"), None, Registry(Plugin(), installed=False))
    cat, empty = (Item(Document(text, text), "", text, 1, 0) for text in ("a cat", ""))
    assert SlotEncoder(slot)([]) == []
    assert SlotEncoder(slot)([empty]) == [None]
    nothing, vector = SlotEncoder(slot)([empty, cat])
    assert nothing is None
    assert has_vector(vector)
