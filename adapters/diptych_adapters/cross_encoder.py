"""Cross-encoders of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from diptych.protocols import Pair
from diptych.types import Floats
from diptych_adapters.model_options import CrossEncoderOptions
from diptych_adapters.models import ModelError
from diptych_adapters.pipelines import Pipeline, find, load, require

ACTIVATIONS = {"sigmoid": torch.nn.Sigmoid, "identity": torch.nn.Identity}


class CrossEncoderReranker(Pipeline):
    """A reranker that reads query and document together. A pair's score does not depend on the other pairs.

    Raises:
        ModelError: the model cannot be had, or was not trained to give one score per pair.
    """

    options_model = CrossEncoderOptions
    independent = True

    def __init__(self, options: CrossEncoderOptions) -> None:
        folder = find(options)
        architectures = ("ForSequenceClassification", "ForCausalLM")
        require("CrossEncoder", folder, architectures=architectures, instead="use a reranking model")
        super().__init__(folder, load(CrossEncoder, folder, options), options)
        _check_labels(self.model.num_labels, self.name)
        self._batch_size, self._prompt = options.batch_size, options.prompt
        self._activation = ACTIVATIONS[options.activation]() if options.activation else None

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better; of a pair too long the longer text is cut."""
        if not pairs:
            return np.zeros(0, np.float32)
        with self._lock:
            scores = self.model.predict(
                [(query, document) for query, document in pairs],
                prompt=self._prompt,
                batch_size=self._batch_size,
                show_progress_bar=False,
                activation_fn=self._activation,
            )
        return np.ascontiguousarray(scores, np.float32)


def _check_labels(labels: int, name: str) -> None:
    if labels != 1:
        raise ModelError(
            f"model {name!r} is a classifier, not a reranker",
            got=f"{labels} labels",
            expected="1 label: one score per pair",
            do="use a cross-encoder that was trained for ranking",
        )
