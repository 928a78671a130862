"""The machine that figures come from."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
CODE = ("plugin", "adapters", "tests", "pyproject.toml")
OURS = (
    "diptych",
    "qdrant-client",
    "qdrant-edge-py",
    "numpy",
    "torch",
    "sentence-transformers",
    "openvino",
    "onnxruntime",
)


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def facts() -> dict[str, Any]:
    """Processor, cores, memory, what it has for arithmetic, system, Python, load, and the commit that is measured."""
    processor = _processor()
    flags = processor.get("flags", "").split()
    return {
        "cpu": processor.get("model name") or platform.processor() or platform.machine(),
        "family, model, stepping": ", ".join(processor.get(key, "?") for key in ("cpu family", "model", "stepping")),
        "cores": cores(),
        "memory": f"{_memory() / 2**30:.1f} GiB",
        "arithmetic": " ".join(flag for flag in FLAGS if flag in flags) or "not known",
        "system": platform.platform(),
        "python": platform.python_version(),
        "load average of a minute": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "commit": commit(),
    }


def arithmetic(machine: Mapping[str, Any]) -> str:
    """The widest arithmetic of a machine's processor, by which results are told apart."""
    flags = str(machine.get("arithmetic", "")).split()
    for prefix, name in (("amx", "AMX"), ("avx512", "AVX-512"), ("avx2", "AVX2")):
        if any(flag.startswith(prefix) for flag in flags):
            return name
    return str(machine.get("cpu") or "this machine")


def versions(packages: Iterable[str] = OURS) -> dict[str, str]:
    """The installed ones of these packages with their versions."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that is checked out, with a + when the code differs from it; empty without git."""
    try:
        name, changes = _git("rev-parse", "--short=12", "HEAD"), _git("status", "--porcelain", "--", *CODE)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return name + ("+" if changes else "")


def _git(*words: str) -> str:
    root = Path(__file__).parents[2]
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def _processor() -> dict[str, str]:
    """What Linux tells about the first processor, nothing elsewhere."""
    file = Path("/proc/cpuinfo")
    first = file.read_text(encoding="utf-8").split("\n\n")[0] if file.exists() else ""
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _memory() -> float:
    names = ("SC_PAGE_SIZE", "SC_PHYS_PAGES")
    return float(os.sysconf(names[0]) * os.sysconf(names[1])) if hasattr(os, "sysconf") else 0.0
