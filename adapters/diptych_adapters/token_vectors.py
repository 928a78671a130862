"""Late interaction without training: the token vectors of a dense model."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.engines.backend import TRIAL
from diptych_adapters.engines.batches import Runner, Tokens, by_length, unit
from diptych_adapters.engines.torch_graph import SingleFeature, TorchGraph, has_plain_tokens, stand_in
from diptych_adapters.model_options import MultiVectorOptions, TokenVectorsOptions
from diptych_adapters.models import ModelError, ModelFolder, check_width
from diptych_adapters.pipelines.fingerprints import is_routed, pipeline_steps
from diptych_adapters.pipelines.library import as_texts, find, load, prompts_of, require
from diptych_adapters.pipelines.pipeline import EncoderPipeline, Task
from diptych_adapters.sentence_transformers import ORGANIZATION, check_dense


class TokenVectorEncoder(EncoderPipeline[list[Floats]]):
    """A unit vector for each token that a dense model reads, to be compared by MaxSim.

    With [CLS] and [SEP], the default, MiniLM over the top 50 of a hybrid search reaches nDCG@10 .886 on debian-mini,
    without them .877. A text without any token gives one zero vector, which is similar to nothing: Qdrant takes no
    empty multivector.
    """

    options_model = TokenVectorsOptions
    similarity: Similarity = "cosine"

    def __init__(self, options: TokenVectorsOptions) -> None:
        folder = find(options, organization=ORGANIZATION)
        check_dense(folder)
        super().__init__(folder, lambda: load("SentenceTransformer", folder, options), options)
        self._batch_size = options.library_batch_size
        self._special = self.normalized = options.special_tokens  # without them a text can have no vector but zero
        facts = self._facts(lambda: _facts(self.model, options, self.name))
        self._prompts: tuple[str, str] = (facts["prompts"][0], facts["prompts"][1])
        self.asymmetric: bool = facts["asymmetric"]
        self._markers: list[int] = facts["markers"]
        self.dimension: int = facts["dimension"]
        self._start()

    def _run_library(self) -> None:
        from diptych_adapters.engines.torch_graph import SingleFeature, is_plain

        module = SingleFeature(self.model, "token_embeddings") if is_plain(self.model, *self._prompts) else None
        self._run_by(module, self._by_library, by_token=True)

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        tokens = "all" if self._special else "words"
        return self.fingerprint_of([f"tokens({tokens})", "normalize"], self._prompts, self.dimension, pooled=False)

    def _encode(self, inputs: Sequence[str], prompt: str, task: Task) -> list[Floats]:
        if self.runner:
            return self.runner.each(inputs, lambda answer, row: self._finished(answer[: row.shape[1]], row[0]), prompt)
        method = self._library_encode(task)

        def batch(texts: list[str]) -> list[Floats]:
            with self._lock:
                outputs = method(
                    texts, prompt=prompt, batch_size=len(texts), show_progress_bar=False, output_value=None
                )
            masks = [output["attention_mask"].bool() for output in outputs]
            pairs = [
                (output["token_embeddings"][mask].float(), output["input_ids"][mask])
                for output, mask in zip(outputs, masks, strict=True)
            ]
            return [self._finished(vectors.cpu().numpy(), ids.cpu().numpy()) for vectors, ids in pairs]

        return by_length(inputs, self._batch_size, batch)

    def _by_library(self) -> list[Floats]:
        outputs: Any = self.model.encode(list(TRIAL), prompt="", output_value=None, show_progress_bar=False)
        return [output["token_embeddings"][output["attention_mask"].bool()].float().cpu().numpy() for output in outputs]

    def _finished(self, vectors: Floats, ids: NDArray[np.int64]) -> Floats:
        """The vectors of the tokens that count, with unit length."""
        if not self._special:
            vectors = vectors[~np.isin(ids, self._markers)]
        if not len(vectors):
            return np.zeros((1, self.dimension), np.float32)
        return unit(np.ascontiguousarray(vectors[:, : self.dimension]))


def _facts(model: Any, options: TokenVectorsOptions, name: str) -> dict[str, Any]:
    """The facts about the library's model that the adapter needs."""
    prompts = prompts_of(model, options)
    # The special tokens that mark a text's boundaries, such as [CLS], but not the unknown word.
    return {
        "prompts": prompts,
        "asymmetric": prompts[0] != prompts[1] or is_routed(model),
        "markers": sorted(
            set(model.tokenizer.all_special_ids) - {model.tokenizer.unk_token_id, model.tokenizer.mask_token_id}
        ),
        "dimension": _token_dimension(model, name, options.truncate_dim),
    }


def _token_dimension(model: Any, name: str, truncate_dim: int | None) -> int:
    outputs: Any = model.encode(["a"], output_value=None, show_progress_bar=False)
    output = outputs[0]
    if "token_embeddings" not in output:
        raise ModelError(
            f"model {name!r} has no token vectors", got=type(model[0]).__name__, expected="a transformer model"
        )
    full = int(output["token_embeddings"].shape[-1])
    return check_width(truncate_dim, full, name) or full


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
        module = SingleFeature(body, "token_embeddings") if fits else None
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
        instead="for late interaction without training set trained_as: dense",
    )
