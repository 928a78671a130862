"""Dense encoders of sentence-transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.engines import processor
from diptych_adapters.engines.backend import TRIAL
from diptych_adapters.engines.batches import unit, unread_share
from diptych_adapters.model_options import SentenceTransformersOptions
from diptych_adapters.models import ModelError, ModelFolder, check_width
from diptych_adapters.pipelines.bert_files import backend_without_torch, read_bert
from diptych_adapters.pipelines.fingerprints import is_routed, pipeline_steps
from diptych_adapters.pipelines.library import as_texts, chosen_prompts, find, load, prompts_of, untruncated
from diptych_adapters.pipelines.pipeline import EncoderPipeline, Task

ORGANIZATION = "sentence-transformers"


class SentenceTransformerEncoder(EncoderPipeline[Floats]):
    """A dense encoder: one vector per text, float32 `[n, dimension]`.

    Raises:
        ModelError: the model cannot be found, is no dense model, or compares by a measure that Qdrant has not.
        MissingExtra: a wheel or a backend is not installed.
    """

    options_model = SentenceTransformersOptions

    def __init__(self, options: SentenceTransformersOptions) -> None:
        folder = find(options, organization=ORGANIZATION)
        check_dense(folder)
        super().__init__(folder, lambda: load("SentenceTransformer", folder, options), options)
        self._batch_size = options.library_batch_size
        if not processor.have("torch", "sentence_transformers"):
            self._read_files(options)
        facts = self._facts(lambda: _facts(self.model, options, self.name))
        self._prompts: tuple[str, str] = (facts["prompts"][0], facts["prompts"][1])
        self._truncate: int | None = facts["truncate"]
        self.normalized: bool = facts["normalized"]
        self.asymmetric: bool = facts["asymmetric"]
        self.similarity: Similarity = facts["similarity"]
        self.dimension: int = facts["dimension"]
        self._start()

    def _read_files(self, options: SentenceTransformersOptions) -> None:
        """Take graph and facts from the model's files, if they are complete; see `bert_files`."""
        backend = backend_without_torch(options)
        files = read_bert(self._folder, options) if backend else None
        if files is None:
            return
        self._convert = files.onnx
        if self._prepared is None or self._prepared.backend != backend:
            saved = self._folder.config("config_sentence_transformers.json")
            facts = _facts_of(
                prompts=chosen_prompts(saved.get("prompts") or {}, options),
                truncate=check_width(options.truncate_dim, files.shape.width, self.name),
                steps=files.steps,
                similarity=_similarity(saved.get("similarity_fn_name") or "cosine", self.name),
                dimension=files.shape.width,
                options=options,
                name=self.name,
            )
            self._prepared = files.prepared(backend, self._digests, facts)

    def _run_library(self) -> None:
        from diptych_adapters.engines.torch_graph import SingleFeature, is_plain

        module = SingleFeature(self.model, "sentence_embedding") if is_plain(self.model, *self._prompts) else None
        self._run_by(module, self._by_library_full)

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        steps = self.steps
        more_steps = ["normalize"] if self.normalized and steps[-1:] != ["normalize"] else []
        return self.fingerprint_of(more_steps, self._prompts, self.dimension)

    @property
    def mean_pooled(self) -> bool:
        """Whether a vector is the mean of its token vectors, of length 1 or not."""
        steps = list(filter(None, self.steps))
        return bool(steps) and steps[0].startswith("pooling(mean") and steps[1:] in ([], ["normalize"])

    def token_vectors(self, inputs: Sequence[str]) -> list[Floats]:
        """The token vectors of documents before pooling, float32 `[tokens_i, dimension]`, by the library's own path."""
        with self._lock:
            outputs: Any = self.model.encode(
                as_texts(self.model, inputs),
                prompt=self._prompts[1],
                output_value="token_embeddings",
                batch_size=self._batch_size,
                show_progress_bar=False,
            )
        tokens, _ = self._document_reading
        after = tokens.special_after if tokens else 0
        most = self.max_tokens
        counts = [len(own) if most is None else min(len(own), most) for own in self.token_spans(inputs)]
        ends = [(len(output) - after, count) for output, count in zip(outputs, counts, strict=True)]
        rows = [output[max(0, end - count) : end] for output, (end, count) in zip(outputs, ends, strict=True)]
        return [np.asarray(row.float().cpu().numpy()[:, : self.dimension], np.float32) for row in rows]

    def unread_share(self, inputs: Sequence[str]) -> float:
        """The share of the letters that the tokenizer leaves unknown or reads in small pieces, 0 to 1."""
        return unread_share(self._folder.module_folders(of_documents=True), inputs)

    def _encode(self, inputs: Sequence[str], prompt: str, task: Task) -> Floats:
        if not inputs:
            return np.zeros((0, self.dimension), np.float32)
        vectors = self.runner.encode(inputs, prompt) if self.runner else self._by_library(inputs, prompt, task)
        vectors = np.ascontiguousarray(vectors[:, : self.dimension], np.float32)
        return unit(vectors) if self.normalized else vectors

    def _by_library_full(self) -> Floats:
        """The library's own vectors of the trial texts, with all dimensions."""
        with untruncated(self.model):
            return np.asarray(self.model.encode(list(TRIAL), prompt="", show_progress_bar=False), np.float32)

    def _by_library(self, inputs: Sequence[str], prompt: str, task: Task) -> Floats:
        """For pipelines of which a part is the library's own business, such as routes for queries and documents."""
        method = self._library_encode(task)
        with self._lock:
            return method(  # type: ignore[no-any-return]
                as_texts(self.model, inputs),
                prompt=prompt,
                batch_size=self._batch_size,
                show_progress_bar=False,
                truncate_dim=self._truncate,
            )


def check_dense(folder: ModelFolder) -> None:
    """Refuse a model that was saved as another kind, which could only be converted by guessing.

    Raises:
        ModelError: naming the adapter that serves it.
    """
    adapters = {
        "SparseEncoder": "sentence-transformers-sparse",
        "MultiVectorEncoder": "sentence-transformers-multivector",
        "ColBERT": "sentence-transformers-multivector",
        "CrossEncoder": "cross-encoder",
    }
    saved = folder.config("config_sentence_transformers.json").get("model_type", "SentenceTransformer")
    architectures = folder.config().get("architectures") or [""]
    if not (folder.path / "modules.json").is_file() and architectures[0].endswith("ForSequenceClassification"):
        saved = "CrossEncoder"
    if saved in adapters:
        raise ModelError(
            f"model {folder.name!r} is not a dense encoder",
            where=folder.path,
            got=saved,
            expected="SentenceTransformer",
            do=f"use adapter: {adapters[saved]}",
        )


def _facts(model: Any, options: SentenceTransformersOptions, name: str) -> dict[str, Any]:
    """The facts about the library's model that the adapter needs."""
    with untruncated(model):
        full = int(model.get_embedding_dimension() or 0)
    truncate = check_width(options.truncate_dim, full, name) or model.truncate_dim
    return _facts_of(
        prompts=prompts_of(model, options),
        truncate=truncate,
        steps=pipeline_steps(model),
        similarity=_similarity(model.similarity_fn_name, name),
        dimension=int(model.get_embedding_dimension()),
        options=options,
        name=name,
    ) | ({"asymmetric": True} if is_routed(model) else {})


def _facts_of(
    *,
    prompts: tuple[str, str],
    truncate: int | None,
    steps: list[str],
    similarity: Similarity,
    dimension: int,
    options: SentenceTransformersOptions,
    name: str,
) -> dict[str, Any]:
    ends_normal = steps[-1:] == ["normalize"]
    if ends_normal and options.normalize is False:
        what = f"model {name!r} normalises its vectors itself"
        raise ModelError(what, where="option normalize", got="false", do="leave the option out")
    return {
        "prompts": prompts,
        "truncate": truncate,
        "normalized": ends_normal if options.normalize is None else options.normalize,
        "asymmetric": prompts[0] != prompts[1],
        "similarity": similarity,
        "dimension": truncate or dimension,
    }


def _similarity(measure: str | None, name: str) -> Similarity:
    for supported in get_args(Similarity):
        if measure == supported:
            return supported  # type: ignore[no-any-return]
    raise ModelError(
        f"model {name!r} compares vectors by a similarity that Qdrant slots do not support",
        got=measure,
        expected=", ".join(get_args(Similarity)),
    )
