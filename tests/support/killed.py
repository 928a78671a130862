"""Work in processes of their own that die by SIGKILL, and the folders that they work in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from qdrant_client import models

SCRIPT = Path(__file__).parents[1] / "integration/swap/kill_process.py"
CHUNK = 8


class Processes:
    """Runs tasks in processes of their own, one after another."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "DIPTYCH_CACHE": "off", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )

    def run(self, folder: Path, do: str, config: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        """What the process said, and whether it was `killed`."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        config = {"populate": {"chunk": CHUNK}, **config}
        self._server.stdin.write(json.dumps({"folder": str(folder), "do": do, "config": config, **more}) + "\n")
        self._server.stdin.flush()
        found: dict[str, Any] = json.loads(self._server.stdout.readline())
        assert "failed" not in found, found["failed"]
        return found

    def close(self) -> None:
        """End the process that forks."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


def corpus(size: int) -> list[dict[str, Any]]:
    return [{"id": i, "text": f"word{i % 17} word{i % 23} number{i}"} for i in range(size)]


def fake(kind: str, log: str = "log", **options: Any) -> dict[str, Any]:
    return {"adapter": f"fake-{kind}", "log": log, **options}


def copied(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target, copy_function=copy_without_holes)
    return target


def copy_without_holes(source: str, target: str) -> None:
    """A copy that takes no more room than what it is of: the engine keeps a thousand times what it writes to."""
    with open(source, "rb") as read, open(target, "wb") as written:
        size = os.fstat(read.fileno()).st_size
        written.truncate(size)
        end = 0
        while (begin := _data(read.fileno(), end, size)) < size:
            end = os.lseek(read.fileno(), begin, os.SEEK_HOLE)
            written.seek(begin)
            written.write(os.pread(read.fileno(), end - begin, begin))


def _data(file: int, offset: int, size: int) -> int:
    """Where something is written, from there on; `size` where nothing is."""
    try:
        return os.lseek(file, offset, os.SEEK_DATA)
    except OSError:
        return size


def plain(vectors: Any) -> Any:
    if isinstance(vectors, dict):
        return {name: plain(vector) for name, vector in sorted(vectors.items())}
    if isinstance(vectors, models.SparseVector):
        return [vectors.indices, np.array(vectors.values, np.float32).tolist()]
    return np.array(vectors, np.float32).tolist()
