"""Measures what this processor computes fast: bfloat16 takes a third of float32's time on some, twice on others.

It is measured with torch, once for each machine; what was measured is remembered, so that no later process needs torch.
"""

from __future__ import annotations

import os
import platform
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.errors import MissingExtra
from diptych.runtime import passed_checks

if TYPE_CHECKING:
    import torch
import contextlib
import hashlib
import shutil
import threading
from collections.abc import Callable

import platformdirs

MOST = 4 * 2**30  # bytes kept for each backend; the least recently used models are deleted

SHAPE = (128, 384, 384)  # rows, inputs and outputs of the product that is timed: .3 ms of one core
TIMES = 60  # the shortest of them counts, as the least disturbed
SLOWER = 0.9  # of float32's speed
INEXACT = ("bfloat16", "float16")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")  # that torch reads
CPUINFO = Path("/proc/cpuinfo")


def machine() -> list[str]:
    """A text that identifies this machine and the share of it that this process may use."""
    return [
        platform.node(),
        platform.machine(),
        str(_cores()),
        *(os.environ.get(name, "") for name in THREADS),
        *_kind(),
    ]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _kind() -> tuple[str, ...]:
    """Linux' description of the first processor; "" elsewhere."""
    try:
        first = CPUINFO.read_text("utf-8", "replace").partition("\n\n")[0]
    except OSError:
        return ()
    return tuple(line for line in first.splitlines() if line.startswith(("model name", "flags", "Features", "CPU ")))


def version_of(package: str) -> str:
    """The version of an installed package, "" if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def have(*packages: str) -> bool:
    """Whether packages are installed; none is imported."""
    return all(find_spec(name) is not None for name in packages)


def threads() -> int:
    """The number of threads that torch uses, or would use, in this process; without torch one for each core."""
    if "torch" not in sys.modules:
        stored = passed_checks.recalled("threads", "torch", _here())
        if not isinstance(stored, int) and not have("torch"):
            return _cores()
        return stored if isinstance(stored, int) else import_torch().get_num_threads()
    return int(sys.modules["torch"].get_num_threads())


def import_torch() -> Any:
    """Import torch and record its initial number of threads, unless a program imported it before.

    Raises:
        MissingExtra: it is not installed.
    """
    new = "torch" not in sys.modules
    if not have("torch"):
        raise MissingExtra("this model needs PyTorch", got="it is not installed", do="pip install 'diptych[torch]'")
    import torch

    if new:
        passed_checks.remember("threads", "torch", _here(), torch.get_num_threads())
    return torch


def _here() -> list[str]:
    return [version_of("torch"), *machine()]


@cache
def speed(precision: str) -> float:
    """How many times faster than in float32 a matrix product is; measured once on a machine, in 50 ms."""
    if isinstance(stored := passed_checks.recalled("speed", precision, _here()), float):
        return stored
    import torch

    ratio = measured_speedup(torch.float32, getattr(torch, precision))
    passed_checks.remember("speed", precision, _here(), ratio)
    return ratio


def measured_speedup(base: torch.dtype, other: torch.dtype) -> float:
    """How many times faster a product is in `other` than in `base`, on one core: several would wait for each other."""
    with ThreadPoolExecutor(1) as pool:  # how many threads torch uses is each thread's own
        return pool.submit(_speedup_on_one_core, base, other).result()


def beside_int8() -> str:
    """The precision of the parts of an int8 model that are not quantised."""
    return "bfloat16" if speed("bfloat16") > 1 else "float32"


def warn_if_slower(precision: str) -> None:
    """Warn if an inexact precision is slower here."""
    if precision in INEXACT and (ratio := speed(precision)) < SLOWER:
        warnings.warn(
            f"precision {precision} is slower than float32 on this processor: {ratio:.1f} times its speed; "
            "leave `precision` out, or use int8",
            stacklevel=2,
        )


def _speedup_on_one_core(base: torch.dtype, other: torch.dtype) -> float:
    import torch

    rows, inputs, outputs = SHAPE
    threads_before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            left, right = torch.randn(rows, inputs), torch.randn(inputs, outputs)
            base_time, other_time = (_shortest_product(left.to(dtype), right.to(dtype)) for dtype in (base, other))
    finally:
        torch.set_num_threads(threads_before)
    return base_time / other_time


def _shortest_product(left: Any, right: Any) -> float:
    seconds = []
    for _ in range(TIMES):
        begin = time.perf_counter()
        left @ right
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def cache_folder(backend: str, *facts: object) -> Path:
    """The folder of a converted model; `facts` tell models, parts and library versions apart."""
    digest = hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()[:24]
    return Path(platformdirs.user_cache_path("diptych", appauthor=False)) / backend / digest


def cached_file(folder: Path, name: str) -> Path | None:
    """The file of a converted model, None if it is not cached; marks it as used now."""
    file = folder / name
    if not file.is_file():
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)
    return file


def store(folder: Path, write: Callable[[Path], tuple[str, ...]]) -> None:
    """Let `write` fill a temporary folder, then move its files into place in the order that it returns.

    The last file marks the folder as complete. A failure to store is a warning, not an error.
    """
    staging = folder / f"{os.getpid()}-{threading.get_ident()}"
    try:
        staging.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in write(staging):
            (staging / name).replace(folder / name)
        staging.rmdir()
        _evict(folder.parent)
    except (OSError, RuntimeError) as error:
        warnings.warn(f"the converted model is not kept in {folder}: {error}", stacklevel=2)


def _evict(parent: Path) -> None:
    """Delete the least recently used folders beyond `MOST` bytes; readers have their files open, so none fails."""
    sizes: list[tuple[float, int, Path]] = []
    for folder in parent.iterdir():
        with contextlib.suppress(OSError):  # another process may remove it, too
            files = [file.stat().st_size for file in folder.iterdir() if file.is_file()]
            sizes.append((folder.stat().st_mtime, sum(files), folder))
    total = 0
    for _, size, folder in sorted(sizes, reverse=True):
        total += size
        if total > MOST:
            shutil.rmtree(folder, ignore_errors=True)
