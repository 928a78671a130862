"""An encoder that hears nothing, and the plugin that brings it: a slot that ruins a fusion."""

from __future__ import annotations

from typing import Any

from diptych.hookspecs import hookimpl
from diptych.protocols import Fingerprint
from diptych.specs import AdapterSpec
from diptych.testing.fakes import FakeDenseEncoder
from diptych.types import Floats


class Deaf(FakeDenseEncoder):
    """Whatever it is asked, it makes the same query of it."""

    def __init__(self) -> None:
        super().__init__(dimension=16)
        self.fingerprint = Fingerprint("deaf", "numpy")

    def encode_query(self, inputs: Any) -> Floats:
        """The vector of one word, for each."""
        return super().encode_query(["word1"] * len(inputs))


class BringsDeaf:
    """A plugin."""

    @hookimpl
    def diptych_register_adapters(self) -> list[AdapterSpec]:
        """`deaf`."""
        return [AdapterSpec(name="deaf", kind="dense", factory=f"{__name__}:Deaf", summary="hears nothing")]
