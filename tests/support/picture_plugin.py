"""A plugin for tests: an encoder of images and texts in one space, by the first byte and the first letter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from diptych import AdapterSpec, hookimpl


class Pictures:
    """A file is the byte that it begins with, a text its first letter."""

    dimension, similarity = 4, "cosine"

    def encode_query(self, inputs: Sequence[str]) -> Any:
        return np.stack([self._row(given) for given in inputs])

    encode_document = encode_query

    def _row(self, given: str) -> Any:
        first = Path(given).read_bytes()[0] if Path(given).is_file() else ord(given[0])
        return np.cos(np.arange(1, 5, dtype=np.float32) * np.float32(first))


class Letters(Pictures):
    """The same of texts alone."""


@hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    factory = f"{__name__}:Pictures"
    return [
        AdapterSpec(name="pictures", kind="dense", factory=factory, summary="", accepts=("image",)),
        AdapterSpec(name="letters", kind="dense", factory=f"{__name__}:Letters", summary=""),
    ]
