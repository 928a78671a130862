"""SPLADE over any masked language model."""

from __future__ import annotations

from typing import Any

from diptych_adapters.model_options import SparseEncoderOptions, SpladeOptions
from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.sparse_encoders import LearnedSparseEncoder


class SpladeEncoder(LearnedSparseEncoder):
    """Term weights from a masked-language-model head: log(1 + relu), the maximum over the tokens.

    Formal et al., "SPLADE v2", https://arxiv.org/abs/2109.10086. The folder needs no file of sentence-transformers:
    config.json with a ...ForMaskedLM architecture, model.safetensors and a tokenizer are enough.

    Raises:
        ModelError: the model cannot be had, or has no masked-language-model head.
    """

    options_model = SpladeOptions

    def __init__(self, options: SpladeOptions) -> None:
        self._pooling, self._activation = options.pooling, options.activation
        super().__init__(options)

    def _load(self, folder: ModelFolder, options: SparseEncoderOptions) -> Any:
        model = super()._load(folder, options)
        poolings = [module for module in model.modules() if type(module).__name__ == "SpladePooling"]
        if not poolings:
            raise ModelError(
                f"model {folder.name!r} has no masked-language-model head",
                got=", ".join(type(module).__name__ for module in model.children()),
                expected="SpladePooling",
                do="use adapter: sentence-transformers-sparse",
            )
        for pooling in poolings:
            pooling.pooling_strategy = self._pooling or pooling.pooling_strategy
            pooling.activation_function = self._activation or pooling.activation_function
        return model
