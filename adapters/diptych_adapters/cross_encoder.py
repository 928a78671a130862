"""Cross-encoders of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from diptych.protocols import Fingerprint, Pair
from diptych.types import Floats
from diptych_adapters.engines.backend import PAIRS
from diptych_adapters.engines.batches import Inputs
from diptych_adapters.engines.int8 import GENERAL
from diptych_adapters.model_options import CrossEncoderOptions
from diptych_adapters.models import ModelError
from diptych_adapters.pipelines.library import find, load, require
from diptych_adapters.pipelines.pipeline import ModelPipeline

if TYPE_CHECKING:
    import torch


ACTIVATIONS = {"sigmoid": "Sigmoid", "identity": "Identity"}  # and what torch calls them


class CrossEncoderReranker(ModelPipeline):
    """A reranker that reads query and document together. A pair's score does not depend on the other pairs.

    The ranges of int8 are measured on pairs of general texts, so that every process scores alike.

    Raises:
        ModelError: the model cannot be found, or was not trained to give one score per pair.
    """

    options_model = CrossEncoderOptions
    independent = True
    trial: ClassVar[Inputs] = PAIRS
    ranges: ClassVar[Inputs] = (*product(GENERAL[:-3], GENERAL[-9:]), *PAIRS)

    def __init__(self, options: CrossEncoderOptions) -> None:
        folder = find(options)
        architectures = ("ForSequenceClassification", "ForCausalLM")
        require("CrossEncoder", folder, architectures=architectures, instead="use a reranking model")
        super().__init__(folder, lambda: load("CrossEncoder", folder, options), options)
        self._batch_size, self._prompt = options.library_batch_size, options.prompt
        self._activation: str = self._facts(lambda: _facts(self.model, options, self.name))["activation"]
        self._start()

    @property
    def fingerprint(self) -> Fingerprint:
        """Which scores this gives: weights, tokenizer, length, activation and prompt."""
        return self.fingerprint_of([self._activation.lower()], (self._prompt or "", ""), 1, pooled=False)

    def _run_library(self) -> None:
        from diptych_adapters.engines.torch_graph import SingleFeature, is_plain

        module = SingleFeature(self.model, "scores") if is_plain(self.model) and not self._prompt else None
        typed = "token_type_ids" in self.model.tokenizer.model_input_names
        self._run_by(module, self._by_library_raw, typed=typed)

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`, higher is better; of a pair too long the longer text is cut."""
        if not pairs:
            return np.zeros(0, np.float32)
        scores = self._by_runner(pairs) if self.runner else self._by_library(pairs, None)
        return np.ascontiguousarray(scores, np.float32)

    def _by_runner(self, pairs: Sequence[Pair]) -> Floats:
        assert self.runner
        raw = self.runner.encode(pairs)[:, 0]
        if self._activation == "Identity":
            return raw
        if self._activation == "Sigmoid" and not self.numerics.startswith("torch"):
            return np.asarray(1 / (1 + np.exp(-np.maximum(raw, -700).astype(np.float64))), np.float32)
        import torch

        activation = torch.nn.Sigmoid() if self._activation == "Sigmoid" else self.model.activation_fn
        with torch.inference_mode():
            return np.asarray(activation(torch.from_numpy(raw)).numpy(), np.float32)

    def _by_library_raw(self) -> Floats:
        """The library's scores of the trial pairs before the activation, `[n, 1]`."""
        import torch

        return self._by_library(PAIRS, torch.nn.Identity())[:, None]

    def _by_library(self, pairs: Sequence[Pair], activation: torch.nn.Module | None) -> Floats:
        import torch

        if activation is None and (name := getattr(self._options, "activation", None)):  # else the model's own
            activation = getattr(torch.nn, ACTIVATIONS[name])()
        with self._lock:
            return self.model.predict(  # type: ignore[no-any-return]
                [(query, document) for query, document in pairs],
                prompt=self._prompt,
                batch_size=self._batch_size,
                show_progress_bar=False,
                activation_fn=activation,
            )


def _facts(model: Any, options: CrossEncoderOptions, name: str) -> dict[str, Any]:
    """The facts about the library's model that the adapter needs."""
    if model.num_labels != 1:
        raise ModelError(
            f"model {name!r} is a classifier, not a reranker",
            got=f"{model.num_labels} labels",
            expected="1 label: one score per pair",
            do="use a cross-encoder that was trained for ranking",
        )
    return {"activation": ACTIVATIONS[options.activation] if options.activation else type(model.activation_fn).__name__}
