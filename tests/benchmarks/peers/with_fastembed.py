"""FastEmbed with a model of ours, by its door for custom models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PACKAGES = ("fastembed", "onnxruntime", "tokenizers", "numpy")


class Peer:
    """Dense vectors: mean over the tokens, unit length. `model` is a folder with model.onnx and a tokenizer."""

    def __init__(self, model: str, *, kind: str, threads: int, options: Mapping[str, Any]) -> None:
        from fastembed import TextEmbedding
        from fastembed.common.model_description import ModelSource, PoolingType

        if kind != "dense":
            raise ValueError(f"FastEmbed is measured on dense models, not {kind}")
        TextEmbedding.add_custom_model(
            model="measured",
            pooling=PoolingType.MEAN,
            normalization=True,
            sources=ModelSource(hf="measured"),
            dim=384,
            model_file="model.onnx",
        )
        self._model = TextEmbedding("measured", specific_model_path=model, threads=threads, **options)

    def encode(self, inputs: Sequence[str]) -> Any:
        return list(self._model.passage_embed(list(inputs)))
