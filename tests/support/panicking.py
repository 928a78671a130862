"""A plugin for tests: encoders and a reranker whose native code panics or hangs when a file says so."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diptych import AdapterSpec, hookimpl
from diptych.testing.fakes import CallSide, FakeDenseEncoder, FakeReranker


class PanicException(BaseException):
    """As pyo3 raises it where Rust code panics."""


class Panicking(FakeDenseEncoder):
    """Panics on texts with the word `poison`, and on every text while the file `panic` exists; waits while `hang` does.

    The file `leave` makes it call for the end of the process. `on` names the folder of these files.
    """

    def __init__(self, *, on: str, poison: str = "", seed: int = 0) -> None:
        super().__init__(seed=seed)
        self._on, self._poison = Path(on), poison

    def called(self, side: CallSide, inputs: Sequence[str]) -> None:
        super().called(side, inputs)
        if (self._on / "panic").exists() or (self._poison and any(self._poison in text for text in inputs)):
            raise PanicException("called `Option::unwrap()` on a `None` value")
        if (self._on / "leave").exists():
            raise SystemExit(3)
        while (self._on / "hang").exists():
            time.sleep(0.02)


class PanickingReranker(FakeReranker):
    """Panics on documents with the word `poison`."""

    def predict(self, pairs: Sequence[Any]) -> Any:
        if any("poison" in document for _, document in pairs):
            raise PanicException("range end index 9 out of range for slice of length 4")
        return super().predict(pairs)


def unmakeable() -> None:
    """A factory that panics."""
    raise PanicException("no such device")


@hookimpl
def diptych_register_adapters() -> list[AdapterSpec]:
    return [
        AdapterSpec(name="panicking", kind="dense", factory=f"{__name__}:Panicking", summary=""),
        AdapterSpec(name="panicking-reranker", kind="reranker", factory=f"{__name__}:PanickingReranker", summary=""),
        AdapterSpec(name="unmakeable", kind="dense", factory=f"{__name__}:unmakeable", summary=""),
    ]
