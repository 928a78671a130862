"""What a test of Ray's engine and the workers that it starts have in common: a registry, and an encoder that dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import diptych
from diptych import Registry
from diptych.testing import FakeDenseEncoder, fakes_plugin
from diptych.types import Floats

DEADLY = "deadly"  # the word on which a worker is killed, once


class Mortal(FakeDenseEncoder):
    """A fake encoder whose process is killed when it first meets the deadly word.

    Args:
        grave: the file that tells that it happened.
        homesick: fail in every process but that of the environment variable OWNER.
        options: of the fake.
    """

    def __init__(self, grave: str = "", *, homesick: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._grave, self._homesick = Path(grave), homesick

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        if self._homesick and os.environ.get("OWNER") != str(os.getpid()):
            raise RuntimeError("there is no model here")
        if any(DEADLY in text for text in inputs) and not self._grave.exists():
            self._grave.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode_document(inputs)


class Plugin:
    @diptych.hookimpl
    def diptych_register_adapters(self) -> Iterable[diptych.AdapterSpec]:
        return [diptych.AdapterSpec(name="mortal", kind="dense", factory="ray_parts:Mortal", summary="dies once")]


def registry() -> Registry:
    return Registry(Plugin(), fakes_plugin, installed=False)
