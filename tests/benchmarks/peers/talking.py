"""`Worker`: a process in a peer's environment, from the side of the benchmark."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from peers.venvs import HERE, ROOT, folder, python_of

BENCHMARKS = Path(__file__).parents[1]
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "RAYON_NUM_THREADS")
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "False"}


class PeerError(Exception):
    """A peer could not do what it was asked."""


class Worker:
    """Starts the process; a context manager that ends it.

    Args:
        peer: a name of peers.worker.MODULES.
        threads: cores that the process is bound to, and threads that its libraries are told.
    """

    def __init__(self, peer: str, threads: int) -> None:
        self.peer = peer
        self.log = folder() / f"{peer}.log"
        python = python_of(peer)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        env = {**os.environ, **OFFLINE, **dict.fromkeys(THREADS, str(threads))}
        env["PYTHONPATH"] = self._path(env.get("PYTHONPATH", "")) if peer == HERE else ""
        with self.log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [python, "-m", "peers.worker", peer, str(threads)],
                cwd=BENCHMARKS,
                env=env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.versions: dict[str, str] = self.ask("versions")

    @staticmethod
    def _path(given: str) -> str:
        """Where this checkout's packages lie, whatever else is installed."""
        return os.pathsep.join(filter(None, [str(ROOT / "plugin"), str(ROOT / "adapters"), given]))

    def ask(self, do: str, **facts: Any) -> Any:
        """What the process answers.

        Raises:
            PeerError: it failed or ended; the message has its words and names the log.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **facts}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass
        line = self._process.stdout.readline()
        answer: Mapping[str, Any] = json.loads(line) if line else {"error": "the process ended"}
        if "error" in answer:
            raise PeerError(f"{self.peer} could not {do}: {answer['error']}; see {self.log}")
        return answer["answer"]

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let it end by itself, which the end of its input tells it to, or end it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
        with self._process:  # closes its output too
            pass


@contextmanager
def loaded(
    peer: str, threads: int, ways: Mapping[str, Mapping[str, Any]], *, model: str, kind: str
) -> Iterator[Worker]:
    """A worker that has loaded the model in each of these ways, which are options by name."""
    with Worker(peer, threads) as worker:
        for way, options in ways.items():
            numerics = worker.ask("load", way=way, model=model, kind=kind, options=options)
            print(f"{peer}: {way}{', runs as ' + numerics if numerics else ''}", flush=True)
        yield worker
