"""The models that are measured, as folders."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diptych_adapters.models import resolve
from peers.venvs import folder, python_of
from variants import MINILM

TOKENS = 256  # that all-MiniLM-L6-v2 reads of a text


def minilm() -> Path:
    return resolve(MINILM).path


def minilm_onnx() -> Path:
    """The same weights for FastEmbed, exported once."""
    place = folder() / "models" / "minilm-onnx"
    if not (place / "model.onnx").exists():
        script = Path(__file__).with_name("export_onnx.py")
        command = [python_of("sentence-transformers"), script, minilm(), place, str(TOKENS)]
        subprocess.run([str(word) for word in command], check=True, capture_output=True)
    return place


def cross_encoder() -> Path:
    """A cross-encoder of MiniLM's size and weights; its head is not trained, which makes no difference to the time."""
    return _made("cross-encoder", lambda kinds: kinds.AutoModelForSequenceClassification, num_labels=1)


def _made(name: str, kind: Callable[[Any], Any], **options: Any) -> Path:
    import torch
    import transformers

    place = folder() / "models" / name
    if not (place / "config.json").exists():
        torch.manual_seed(0)
        kind(transformers).from_pretrained(minilm(), **options).save_pretrained(place)
        transformers.AutoTokenizer.from_pretrained(minilm()).save_pretrained(place)
    return place
