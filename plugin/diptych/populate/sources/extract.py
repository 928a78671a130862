"""`Extractor`: title and text of PDF, HTML and DOCX files, which a process reads that is killed when it takes too much.

They need `pip install "diptych[documents]"`. The libraries are pypdf, lxml and python-docx; `extractors` calls them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Self

from diptych.errors import DocumentError, PopulateError
from diptych.populate.sources import extractors
from diptych.runtime import text_budget

_NEEDED = {
    ".pdf": (("pypdf", "pypdf"),),
    ".html": (("lxml", "lxml"),),
    ".htm": (("lxml", "lxml"),),
    ".docx": (("lxml", "lxml"), ("docx", "python-docx")),
}
KINDS = tuple(_NEEDED)


class Extractor:
    """Reads files one by one; a context manager. Its process begins with the first file, and again after a kill."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def read(self, path: Path) -> tuple[str, str]:
        """Title and text of a file; the title is empty if there is none.

        Raises:
            DocumentError: it is damaged, encrypted or without text, it takes too much time or memory, or the extra is
                not installed.
        """
        kind, size = path.suffix.lower(), path.stat().st_size
        if missing := missing_package(kind):
            raise DocumentError(f"{kind} files need {missing}", do='pip install "diptych[documents]"')
        seconds = text_budget.seconds(size)
        memory, unpacked, characters = text_budget.MEMORY, text_budget.FILE, text_budget.TEXT
        limits = {"seconds": seconds, "memory": memory, "unpacked": unpacked, "characters": characters}
        answer = self._answer({"path": os.path.abspath(path), **limits}, seconds)
        if answer is None:
            expected = f"{seconds:.0f} seconds and {memory:,} bytes at most"
            raise DocumentError("reading the file takes too much time or memory", expected=expected)
        if len(answer) > 2:
            raise DocumentError(answer[0], got=answer[1], expected=answer[2])
        title, text = answer
        if not text:
            scanned = ": pages that were scanned are images" if kind == ".pdf" else ""
            raise DocumentError(f"there is no text in the file{scanned}")
        return title, text

    def _answer(self, request: object, seconds: float) -> list[str] | None:
        """What the process answers; None if it ended, by its limits or since it hung."""
        process = self._process = self._process or _started()
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        # Its limit is processor time; waiting longer than that is for a busy machine.
        timer = threading.Timer(text_budget.PATIENCE * seconds, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = b""
        finally:
            timer.cancel()
        if line.endswith(b"\n"):
            answer: list[str] = json.loads(line)
            return answer
        self.__exit__()
        return None


def _started() -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", extractors.__file__]
    quiet, pipe = subprocess.DEVNULL, subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=quiet)


def missing_package(kind: str) -> str:
    """The missing package that files of this kind need; empty if all are installed."""
    return next((name for module, name in _NEEDED[kind] if importlib.util.find_spec(module) is None), "")


def require_package(kind: str) -> None:
    """Raise PopulateError if files of this kind cannot be read."""
    if kind in _NEEDED and (missing := missing_package(kind)):
        raise PopulateError(f"{kind} files need {missing}", do='pip install "diptych[documents]"')
