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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import AdapterFactoryError, DiptychError
from diptych.protocols import Pair

SYSTEM, TASKS = Path("/sys/devices/system"), Path("/proc/self/task")

LEAST = 16  # fewest inputs sent to a process at once
TURNS = 4  # pieces for each process in one call, so that all end at about the same time
BROKEN = (OSError, EOFError, pickle.UnpicklingError)  # raised by the pipe to a process that ended
SHARED = ("encode_document", "predict")
FACTS = (
    *("dimension", "similarity", "uses_idf", "max_length", "independent", "sample", "max_tokens"),
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
        self._sample_texts: Any = None
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
                self._sample_texts = args
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
            if self._sample_texts is not None and method != "look_at":
                self._ask("look_at", self._sample_texts)
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
                while (piece := _next(pieces, lock)) is not None:
                    results[piece[0]] = encode(piece[1])

            for done in [self._pool.submit(work, worker_call) for worker_call in workers]:
                done.result()
            parts = [results[start] for start in sorted(results)]
            if isinstance(parts[0], np.ndarray):
                return np.concatenate(parts)
            return [item for part in parts for item in part]

        return call


def _next(pieces: Any, lock: threading.Lock) -> Any:
    with lock:
        return next(pieces, None)


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
    if cores:
        keep_to(cores)  # before a model is loaded, so that what it allocates lies in the memory beside them
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


def shares(processes: int, cores: Iterable[int] | None = None, system: Path = SYSTEM) -> list[list[int]]:
    """The cores for each process, by Linux's numbers; both threads of a core stay together where the counts allow it.

    With fewer processes than nodes, a process gets cores of several nodes; with more than cores, processes share cores.

    Args:
        processes: number of processes.
        cores: to distribute; by default all that this process may use.
        system: the folder in which Linux lists the cores of each node.
    """
    nodes = _by_node(usable() if cores is None else cores, system)
    if processes < len(nodes):
        nodes = [[core for node in nodes for core in node]]
    counts = [1] * len(nodes)
    for _ in range(processes - len(nodes)):  # the node whose processes have the most cores takes one more
        counts[max(range(len(nodes)), key=lambda place: len(nodes[place]) / counts[place])] += 1
    return [part for node, count in zip(nodes, counts, strict=True) for part in _split(node, count)]


def usable() -> list[int]:
    """The cores that this process may use, even if this thread is bound to one of them."""
    if not hasattr(os, "sched_getaffinity"):
        return list(range(os.cpu_count() or 1))
    return sorted({core for allowed in _each_thread(os.sched_getaffinity) for core in allowed})


def keep_to(cores: Sequence[int]) -> None:
    """Bind all threads of this process to these cores, if the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        list(_each_thread(lambda thread: os.sched_setaffinity(thread, cores)))


def _each_thread(call: Callable[[int], set[int] | None]) -> Iterator[set[int]]:
    """Apply a call to each thread of this process; ignores threads that just ended and cores that were taken away."""
    threads = [int(task.name) for task in TASKS.iterdir()] if TASKS.is_dir() else [0]
    for thread in threads:
        with contextlib.suppress(OSError):
            yield call(thread) or set()


def _by_node(cores: Iterable[int], system: Path) -> list[list[int]]:
    """The cores of each node that has any, the threads of one core next to each other."""
    files = sorted(system.glob("node/node[0-9]*/cpulist"), key=lambda file: int(file.parent.name.removeprefix("node")))
    node = {core: index for index, file in enumerate(files) for core in _parsed_list(file.read_text(encoding="ascii"))}
    groups: dict[int, list[int]] = {}
    for core in sorted(cores, key=lambda core: (node.get(core, len(files)), _physical(core, system), core)):
        groups.setdefault(node.get(core, len(files)), []).append(core)
    return list(groups.values())


def _physical(core: int, system: Path) -> int:
    file = system / "cpu" / f"cpu{core}" / "topology" / "core_id"
    return int(file.read_text(encoding="ascii")) if file.is_file() else core


def _split(cores: Sequence[int], processes: int) -> list[list[int]]:
    if processes > len(cores):
        return [[cores[index % len(cores)]] for index in range(processes)]
    return [sorted(part.tolist()) for part in np.array_split(cores, processes)]


def _parsed_list(text: str) -> list[int]:
    """The numbers in a list such as 0-3,8-11."""
    ends = [part.split("-") for part in text.strip().split(",") if part]
    return [number for first, *last in ends for number in range(int(first), int((last or [first])[0]) + 1)]


if __name__ == "__main__":
    main()
