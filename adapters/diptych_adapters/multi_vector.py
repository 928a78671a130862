"""Trained late-interaction encoders of sentence-transformers: ColBERT and its kin."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.engines.backend import TRIAL
from diptych_adapters.engines.graph_modules import SingleFeature, has_plain_tokens, stand_in
from diptych_adapters.engines.runner import Runner
from diptych_adapters.engines.tokens import Tokens
from diptych_adapters.engines.torch_graph import TorchGraph
from diptych_adapters.model_options import MultiVectorOptions
from diptych_adapters.models import ModelFolder
from diptych_adapters.pipelines.encoder_pipeline import EncoderPipeline, Task
from diptych_adapters.pipelines.library import as_texts, find, load, prompts_of, require
from diptych_adapters.pipelines.steps import pipeline_steps


class LateInteractionEncoder(EncoderPipeline[list[Floats]]):
    """A vector per token, trained for MaxSim; Stanford and PyLate checkpoints are read too.

    A text of which no token is kept gives one zero vector, which is similar to nothing: Qdrant takes no empty
    multivector.

    Raises:
        ModelError: the model cannot be found, or would need an untrained projection.
    """

    options_model = MultiVectorOptions

    def __init__(self, options: MultiVectorOptions) -> None:
        folder = find(options)
        _check_trained(folder)
        super().__init__(folder, lambda: load("MultiVectorEncoder", folder, options), options)
        self._batch_size = options.library_batch_size
        self._prompts = prompts_of(self.model, options)
        ends_normal = pipeline_steps(self.model)[-1:] == ["normalize"]
        self._normalize = bool(options.normalize) and not ends_normal
        self.similarity: Similarity = "cosine" if ends_normal or self._normalize else "dot"
        self.dimension: int = int(self.model.get_embedding_dimension())
        self._run_transformer()

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self.fingerprint_of(["normalize"] if self._normalize else [], self._prompts, self.dimension)

    def _run_transformer(self) -> None:
        """Let another backend run the transformer; queries, masks and later steps stay with the library."""
        transformer = next(iter(self.model.children()))
        fits = type(transformer).__name__ == "Transformer" and has_plain_tokens(self.model)
        if self._options.backend == "torch":
            self._by_library_alone()
            return
        body = copy.copy(transformer)  # which stays itself when another graph stands in for the transformer
        module = SingleFeature(body, "token_embeddings") if fits and not self._options.file_name else None
        self._run_by(module, lambda: self._by_torch(module), by_token=True)

    def _by_torch(self, module: Any) -> list[Floats]:
        tokens = Tokens(self.model.tokenizer, self.max_length)
        return [vectors for vectors, _ in Runner(tokens, TorchGraph(module, "torch")).token_vectors(TRIAL)]

    def _take(self, runner: Runner | None) -> None:
        runs_apart = runner is not None and not isinstance(runner.graph, TorchGraph)
        self.runner = runner if runs_apart else None
        if runs_apart and runner is not None:
            stand_in(next(iter(self.model.children())), runner.graph)

    def _encode(self, inputs: Sequence[str], prompt: str, task: Task) -> list[Floats]:
        method = self._library_encode(task)
        with self._lock:
            embeddings = method(
                as_texts(self.model, inputs),
                prompt=prompt,
                batch_size=self._batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=self._normalize,
            )
        zero_vector = np.zeros((1, self.dimension), np.float32)
        return [np.ascontiguousarray(vectors, np.float32) if len(vectors) else zero_vector for vectors in embeddings]


def _check_trained(folder: ModelFolder) -> None:
    if folder.config("config_sentence_transformers.json").get("model_type") == "ColBERT":
        return
    require(
        "MultiVectorEncoder",
        folder,
        architectures=("HF_ColBERT", "ForRetrieval"),
        instead="for late interaction without training use adapter: token-vectors",
    )
