"""Worker processes that hold an encoder each, and `Spread`, which distributes documents among them.

A worker is `python -m diptych_adapters.engines.workers` and reads calls from its standard input, so a script that uses
one needs no `if __name__ == "__main__"`. It ends with its parent process.
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

LEAST = 16  # fewest inputs sent to a process at once
TURNS = 4  # pieces for each process in one call, so that all end at about the same time
BROKEN = (OSError, EOFError, pickle.UnpicklingError)  # raised by the pipe to a process that ended
SHARED = ("encode_document", "predict")
FACTS = (
    *("dimension", "similarity", "uses_idf", "max_length", "independent", "max_tokens"),
    *("encode_query", "decode", "token_spans"),
)


class Worker:
    """A process with an adapter of its own, kept until `close`; if it dies during a call, it is restarted once.

    Args:
        factory: "module:class" of the adapter.
        options: of the adapter, as keywords.
        cores: to which it is bound, with a torch thread on each; None leaves both to the system.
    """

    def __init__(self, factory: str, options: dict[str, Any], cores: Sequence[int] | None) -> None:
        self._begin = (factory, options, cores)
        self._lock = threading.Lock()
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
                return self._ask(method, args)
            except BROKEN:
                return self._ask_again(method, args)

    def close(self) -> None:
        """End the process."""
        self._ended()

    def _ask_again(self, method: str, args: tuple[Any, ...]) -> Any:
        """Like `_ask`, after restarting a process that ended."""
        self.close()
        self._process = self._started()
        self._ended = weakref.finalize(self, _end, [self._process])
        try:
            return self._ask(method, args)
        except BROKEN as error:
            self.close()
            raise AdapterFactoryError(
                "a worker process ended, and so did its replacement",
                where=f"{self._begin[0]}, device {self._begin[1].get('device') or 'cpu'}",
                got=f"exit status {self._process.wait()}",
                do="see its output; use fewer processes if memory is short",
            ) from error

    def _started(self) -> subprocess.Popen[bytes]:
        cores = self._begin[2]
        threads = {"OMP_NUM_THREADS": str(len(cores))} if cores else {}
        process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **threads},
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
        first: the adapter in this process; it alone encodes queries, so that they do not wait for documents.
        workers: the processes.
        takes_part: whether `first` encodes a share, too; on a CPU it would slow down the workers.
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

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers:
            worker.close()
        self._pool.shutdown()

    def _shared(self, name: str) -> Callable[[Sequence[str] | Sequence[Pair]], Any]:
        method = getattr(self._first, name)

        def call(inputs: Sequence[str] | Sequence[Pair]) -> Any:
            if len(inputs) <= LEAST:
                return method(inputs)
            workers = [method] if self._takes_part else []
            workers += [partial(worker.call, name) for worker in self._workers]
            step = max(LEAST, -(-len(inputs) // (TURNS * len(workers))))
            pieces = iter([(start, inputs[start : start + step]) for start in range(0, len(inputs), step)])
            results: dict[int, Any] = {}
            lock = threading.Lock()

            def work(encode: Callable[[Any], Any]) -> None:
                while True:
                    with lock:
                        start, piece = next(pieces, (-1, None))
                    if piece is None:
                        return
                    results[start] = encode(piece)

            for done in [self._pool.submit(work, worker_call) for worker_call in workers]:
                done.result()
            parts = [results[start] for start in sorted(results)]
            if isinstance(parts[0], np.ndarray):
                return np.concatenate(parts)
            return [item for part in parts for item in part]

        return call


def spread(
    factory: str, first: Callable[[str | None], Any], options: dict[str, Any], device: Any, processes: int
) -> Any:
    """The adapter on all named devices, or in so many processes on the CPU.

    Args:
        factory: "module:class" of the adapter, for the workers.
        first: makes the adapter of this process on a device.
        options: of the adapter, as keywords.
        device: one or a list of them.
        processes: number of processes that share the CPU's cores.
    """
    devices = list(device) if isinstance(device, list | tuple) else [device]
    adapter = first(devices[0])
    if len(devices) > 1:
        workers = [Worker(factory, {**options, "device": extra}, None) for extra in devices[1:]]
        return Spread(adapter, workers, takes_part=True)
    if processes > 1:
        worker_options = {**options, "processes": 1}
        workers = [Worker(factory, worker_options, cores) for cores in shares(processes)]
        return Spread(adapter, workers, takes_part=False)
    return adapter


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
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # so that what a library prints is not read as an answer
    factory, options, cores = pickle.load(requests)
    if cores and hasattr(os, "sched_setaffinity"):  # before a model is loaded, so that its memory lies beside them
        os.sched_setaffinity(0, cores)
    import torch

    if cores:
        torch.set_num_threads(len(cores))
    module, _, name = factory.partition(":")
    adapter: Any = None
    while True:
        try:
            method, args = pickle.load(requests)
        except EOFError:
            return
        try:
            adapter = adapter or getattr(import_module(module), name).of(**options)
            _send(answers, (True, getattr(adapter, method)(*args)))
        except Exception as error:
            _send(answers, (False, _picklable(error)))


def _picklable(error: Exception) -> Exception:
    """The error, or an equivalent one if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return DiptychError(f"a worker process failed: {type(error).__name__}: {error}")
    return error


def shares(processes: int) -> list[list[int]]:
    """The cores for each process, of those that this one may use; with more processes than cores, they share cores."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if processes > len(cores):
        return [[cores[index % len(cores)]] for index in range(processes)]
    return [part.tolist() for part in np.array_split(cores, processes)]


if __name__ == "__main__":
    main()
