"""Worker processes that hold an encoder each, and `Spread`, which distributes documents among them.

A worker is `python -m diptych_adapters.engines.workers`, fed by its standard input: a script that uses one needs no
`if __name__ == "__main__"`. It ends with the process that began it.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np

from diptych.errors import AdapterFactoryError, DiptychError
from diptych.protocols import Pair
from diptych.types import Floats
from diptych_adapters.engines.cores import keep_to, shares

LEAST = 16  # inputs that are given to a process at once
TURNS = 4  # of each process for one call, so that all end at about the same time
BROKEN = (OSError, EOFError, pickle.UnpicklingError)  # what a pipe to a process that ended gives
SHARED = ("encode_document", "predict")
FACTS = ("dimension", "similarity", "uses_idf", "max_length", "independent", "sample", "encode_query", "decode")


class Worker:
    """A process with an adapter of its own, kept until `close`; if it dies during a call, it is restarted once.

    Args:
        factory: "module:class" of the adapter.
        options: of the adapter, as keywords.
        cores: that it keeps to, a thread of torch on each; None leaves both to the system.
    """

    def __init__(self, factory: str, options: dict[str, Any], cores: Sequence[int] | None) -> None:
        self._begin = (factory, options, cores)
        self._lock = threading.Lock()
        self._seen: Any = None
        self._process = self._started()
        self._ended = weakref.finalize(self, _end, [self._process])

    def call(self, method: str, *args: Any) -> Any:
        """The result of the method of the worker's adapter.

        Raises:
            AdapterFactoryError: the process ended twice.
            DiptychError: what the adapter raised.
        """
        with self._lock:
            try:
                answer = self._ask(method, args)
            except BROKEN:
                answer = self._ask_again(method, args)
            if method == "look_at":
                self._seen = args
            return answer

    def close(self) -> None:
        """End the process."""
        self._ended()

    def _ask_again(self, method: str, args: tuple[Any, ...]) -> Any:
        """Like `_ask`, after restarting a process that ended; it is shown the same texts again."""
        self.close()
        self._process = self._started()
        self._ended = weakref.finalize(self, _end, [self._process])
        try:
            if self._seen is not None and method != "look_at":
                self._ask("look_at", self._seen)
            return self._ask(method, args)
        except BROKEN as error:
            self.close()
            raise AdapterFactoryError(
                "a worker process ended, and so did the one begun in its place",
                where=f"{self._begin[0]}, device {self._begin[1].get('device') or 'cpu'}",
                got=f"exit status {self._process.wait()}",
                do="see what it printed; take fewer processes if memory is short",
            ) from error

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **_threads(self._begin[2])},
        )
        with contextlib.suppress(OSError):
            _send(process.stdin, self._begin)
        return process

    def _ask(self, method: str, args: tuple[Any, ...]) -> Any:
        if self._process.stdin is None or self._process.stdin.closed:
            raise EOFError("the process was ended")
        _send(self._process.stdin, (method, args))
        ok, answer = pickle.load(self._process.stdout)  # type: ignore[arg-type]
        if ok:
            return answer
        raise answer


class Spread:
    """An adapter on several devices or in several processes, which share documents and pairs.

    Args:
        first: the adapter in this process; queries are its business, so that they wait for nobody.
        workers: the processes.
        takes_part: `first` takes its share, too; on a CPU it would be in the others' way.
    """

    def __init__(self, first: Any, workers: Sequence[Worker], *, takes_part: bool) -> None:
        self._first, self._workers, self._takes_part = first, workers, takes_part
        self._pool = ThreadPoolExecutor(len(workers) + 1, "spread")
        for name in SHARED:
            if hasattr(first, name):
                setattr(self, name, self._shared(name))
        for name in FACTS:  # since Python 3.12 a protocol looks for attributes of the object's own
            if hasattr(first, name):
                setattr(self, name, getattr(first, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._first, name)

    def look_at(self, texts: Sequence[str]) -> None:
        """Show these texts to every process."""
        for done in [self._pool.submit(worker.call, "look_at", texts) for worker in self._workers]:
            done.result()
        self._first.look_at(texts)

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()
        self._pool.shutdown()

    def _shared(self, name: str) -> Callable[[Sequence[str] | Sequence[Pair]], Any]:
        own = getattr(self._first, name)

        def call(inputs: Sequence[str] | Sequence[Pair]) -> Any:
            if len(inputs) <= LEAST:
                return own(inputs)
            takers = [own] if self._takes_part else []
            takers += [partial(worker.call, name) for worker in self._workers]
            size = max(LEAST, -(-len(inputs) // (TURNS * len(takers))))
            pieces = iter([(start, inputs[start : start + size]) for start in range(0, len(inputs), size)])
            found: dict[int, Any] = {}
            taking = threading.Lock()

            def work(encode: Callable[[Any], Any]) -> None:
                while (piece := _next(pieces, taking)) is not None:
                    found[piece[0]] = encode(piece[1])

            for done in [self._pool.submit(work, taker) for taker in takers]:
                done.result()
            return _joined([found[start] for start in sorted(found)])

        return call


def _next(pieces: Any, taking: threading.Lock) -> Any:
    with taking:
        return next(pieces, None)


def _joined(parts: Sequence[Any]) -> Floats | list[Any]:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return [one for part in parts for one in part]


def _threads(cores: Sequence[int] | None) -> dict[str, str]:
    return {"OMP_NUM_THREADS": str(len(cores))} if cores else {}


def spread(
    factory: str, first: Callable[[str | None], Any], options: dict[str, Any], device: Any, processes: int
) -> Any:
    """The adapter on all named devices, or in so many processes on the CPU.

    Args:
        factory: "module:class" of the adapter, for the workers.
        first: makes the adapter of this process on a device.
        options: of the adapter, as keywords.
        device: one or a list of them.
        processes: that share the processor's cores.
    """
    devices = list(device) if isinstance(device, list | tuple) else [device]
    made = first(devices[0])
    if len(devices) > 1:
        workers = [Worker(factory, {**options, "device": other}, None) for other in devices[1:]]
        return Spread(made, workers, takes_part=True)
    if processes > 1:
        own = {**options, "processes": 1}
        workers = [Worker(factory, own, cores) for cores in shares(processes)]
        return Spread(made, workers, takes_part=False)
    return made


def _send(stream: Any, message: object) -> None:
    pickle.dump(message, stream, protocol=pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]
        process.terminate()
        process.wait()


def main() -> None:
    """Serve one adapter until standard input ends; Ctrl-C is left to the parent process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    factory, options, cores = pickle.load(asked)
    if cores:
        keep_to(cores)  # before a model is loaded, so that what it allocates lies in the memory beside them
    import torch

    if cores:
        torch.set_num_threads(len(cores))
    module, _, name = factory.partition(":")
    made: Any = None
    while True:
        try:
            method, args = pickle.load(asked)
        except EOFError:
            return
        try:
            made = made or getattr(import_module(module), name).of(**options)
            _send(answers, (True, getattr(made, method)(*args)))
        except Exception as error:
            _send(answers, (False, _told(error)))


def _told(error: Exception) -> Exception:
    """The error, or an equivalent one if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return DiptychError(f"a worker process failed: {type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
