"""Vectors that several programs of a test run would make of the same inputs by the same weights are made once.

Pages, examples, the demo and Studio's tests fill collections with the same texts by the same real model, which is most
of what they take. Here a batch that torch is to run loses the rows that are known already: a row is known by its token
ids and by a digest of the module's structure, its weights and its numerics. Nothing else of a program changes. What a
model makes of texts, and how fast, is the business of tests that do not use this.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import portalocker
import torch
from numpy.typing import NDArray

from diptych.types import Floats
from diptych_adapters.engines.torch_graph import TorchGraph

FOLDER = "DIPTYCH_SHARED_VECTORS"  # the environment variable that names the folder of the file; tests/conftest.py
PATIENCE = 300  # seconds for a lock of the file, should the machine stall
AT_ONCE = 500  # keys of a statement
LOCKS = 16
SHARED = "sentence_embedding"  # vectors of tokens and of lexicons take more room than they save time


@contextmanager
def shared() -> Iterator[None]:
    """Share vectors with other programs of the run, in this process and during the block."""
    original = TorchGraph.__call__
    share()
    try:
        yield
    finally:
        TorchGraph.__call__ = original  # type: ignore[method-assign]


def share() -> None:
    """Share vectors with other programs of the run, in this process and those that it forks."""
    original, file = TorchGraph.__call__, Path(os.environ[FOLDER]) / "vectors.sqlite"

    def known_or_made(graph: TorchGraph, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        if getattr(graph._module, "feature", "") != SHARED:
            return original(graph, inputs, mask)
        digest = _digest(graph)
        keys = [hashlib.sha256(digest + row.tobytes()).digest() for row in _rows(inputs, mask)]
        known = _read(file, keys)
        if not all(key in known for key in keys):
            # Programs that begin at one time come to the same batch at one time: the others wait for the first.
            with portalocker.Lock(f"{file}.{keys[0][0] % LOCKS}", timeout=PATIENCE):
                known |= _read(file, [key for key in keys if key not in known])
                missing = [place for place, key in enumerate(keys) if key not in known]
                if missing:
                    made = original(graph, *(np.ascontiguousarray(own) for own in (inputs[:, missing], mask[missing])))
                    fresh = {keys[place]: row for place, row in zip(missing, made, strict=True)}
                    _write(file, fresh)
                    known |= fresh
        return np.stack([known[key] for key in keys])

    TorchGraph.__call__ = known_or_made  # type: ignore[assignment, method-assign]


def _rows(inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The ids of each row, without padding: int64 `[channels, tokens_i]`."""
    return [np.ascontiguousarray(inputs[:, place, own.astype(bool)]) for place, own in enumerate(mask)]


def _digest(graph: Any) -> bytes:
    """Of what decides a graph's answers; made again when weights have changed since."""
    module: torch.nn.Module = graph._module
    tensors = [*module.parameters(), *module.buffers()]
    version = [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
    if getattr(graph, "_digested", (None,))[0] != version:
        digest = hashlib.sha256(f"{graph.numerics} {module!r} {module.training}".encode())
        for tensor in tensors:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        graph._digested = version, digest.digest()
    found: bytes = graph._digested[1]
    return found


def _open(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=PATIENCE, isolation_level=None)
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
    return connection


def _read(file: Path, keys: Sequence[bytes]) -> dict[bytes, Floats]:
    found: dict[bytes, Floats] = {}
    with closing(_open(file)) as connection:
        for start in range(0, len(keys), AT_ONCE):
            part = keys[start : start + AT_ONCE]
            marks = ", ".join("?" * len(part))
            rows = connection.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part)
            found |= {key: np.frombuffer(vector, np.float32) for key, vector in rows}
    return found


def _write(file: Path, vectors: dict[bytes, Floats]) -> None:
    with closing(_open(file)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT OR IGNORE INTO vectors VALUES (?, ?)", [(key, row.tobytes()) for key, row in vectors.items()]
        )
        connection.execute("COMMIT")
