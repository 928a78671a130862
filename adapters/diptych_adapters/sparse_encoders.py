"""Learned sparse encoders of sentence-transformers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diptych.protocols import Fingerprint
from diptych.types import Floats, SparseVector
from diptych_adapters.engines.backend import TRIAL
from diptych_adapters.engines.batches import Graph, by_length
from diptych_adapters.model_options import SparseEncoderOptions, SpladeOptions
from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.pipelines.fingerprints import is_routed
from diptych_adapters.pipelines.library import as_texts, find, load, prompts_of, require
from diptych_adapters.pipelines.pipeline import EncoderPipeline, Task

if TYPE_CHECKING:
    import torch
import torch
from numpy.typing import NDArray

TOKENS = 1024  # decoded together, so that their logits over a block of the lexicon stay in the processor's cache
BLOCK = 2048  # words of the lexicon that are decoded together

MASKED = ("Transformer", "MLMTransformer", "SpladePooling", "Normalize")
WIDE = 8  # texts of a batch of the library's, of which each token takes a row as wide as the lexicon
CHUNK = 32  # tokens pooled at once: their rows are as wide as the lexicon, and several copies are held of them


class LearnedSparseEncoder(EncoderPipeline[list[SparseVector]]):
    """A sparse encoder over the model's vocabulary: SPLADE and its kin, inference-free ones, sparse autoencoders.

    Raises:
        ModelError: the model cannot be found, or is not a trained sparse encoder.
    """

    options_model = SparseEncoderOptions
    uses_idf = False

    def __init__(self, options: SparseEncoderOptions) -> None:
        folder = find(options)
        super().__init__(folder, lambda: self._load(folder, options), options)
        self._batch_size = options.library_batch_size
        facts = self._facts(lambda: self._facts_of_model(options))
        self._prompts: tuple[str, str] = (facts["prompts"][0], facts["prompts"][1])
        self.asymmetric: bool = facts["asymmetric"]
        self._keep: int | None = facts["keep"]
        self._words: bool = facts["words"]
        self.dimension: int = facts["dimension"]
        self._start()

    def _facts_of_model(self, options: SparseEncoderOptions) -> dict[str, Any]:
        """The facts about the library's model that the adapter needs."""
        prompts, kinds = prompts_of(self.model, options), {type(module).__name__ for module in self.model.modules()}
        return {
            "prompts": prompts,
            "asymmetric": prompts[0] != prompts[1] or is_routed(self.model),
            "keep": options.max_active_dims or self.model.max_active_dims,
            "words": "SparseAutoEncoder" not in kinds,
            "dimension": self._batch(["a"], "", "document").shape[1],
            "head": _pooling(self.model),
        }

    @property
    def fingerprint(self) -> Fingerprint:
        """Which vectors this makes; see diptych_adapters.pipelines.fingerprints."""
        return self.fingerprint_of([f"heaviest({self._keep})"] if self._keep else [], self._prompts, self.dimension)

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The vector's terms as tokens with their weights, heaviest first.

        A token that continues a word starts with ##; the features of a sparse autoencoder are only numbered.
        """
        terms: list[tuple[str, float]] = []
        for i in np.argsort(-vector.values, kind="stable")[:top_k]:
            index, tokenizer = int(vector.indices[i]), self.model.tokenizer
            term = str(tokenizer.convert_ids_to_tokens(index)) if self._words else f"feature {index}"
            if self._words and not term.startswith("##"):
                term = str(tokenizer.convert_tokens_to_string([term])).strip() or term
            terms.append((term, float(vector.values[i])))
        return terms

    def _load(self, folder: ModelFolder, options: SparseEncoderOptions) -> Any:
        instead = "use a sparse model; adapter: sentence-transformers serves dense ones"
        require("SparseEncoder", folder, architectures=("ForMaskedLM",), instead=instead)
        model = load("SparseEncoder", folder, options)
        for pooling in model.modules():
            if type(pooling).__name__ == "SpladePooling":
                pooling.chunk_size = CHUNK
        return model

    def _run_library(self) -> None:
        """Let a backend run a masked language model up to its decoder; `LexiconGraph` adds decoder and pooling."""
        from diptych_adapters.engines.torch_graph import SingleFeature, is_plain, without_decoder

        head = _pooling(self.model)
        plain = head is not None and is_plain(self.model, modules=MASKED)
        parts = without_decoder(next(iter(self.model.children()))) if plain else None
        if parts is None or head is None:
            return self._run_by(None, list)
        body, decoder = parts
        bias = {} if decoder.bias is None else {"bias": decoder.bias.detach()}
        self._decoder = {"weight": decoder.weight.detach(), **bias}
        return self._run_by(
            SingleFeature(body, "token_embeddings"),
            lambda: self._batch(list(TRIAL), "", "document", keep=self.dimension),
            head=lambda graph: _lexicon(graph, self._decoder, head),
        )

    def _head(self) -> Callable[[Graph], Graph] | None:
        from diptych_adapters.engines import processor, torch_export

        processor.import_torch()
        head, decoder = self._facts(dict)["head"], torch_export.tensors(f"{self._cache_key} decoder")
        if head is None or decoder is None:
            return None
        return lambda graph: _lexicon(graph, decoder, head)

    def _cache_head(self, sources: Sequence[Path]) -> None:
        from diptych_adapters.engines import torch_export

        torch_export.cache_tensors(f"{self._cache_key} decoder", self._decoder, sources)

    def _encode(self, inputs: Sequence[str], prompt: str, task: Task) -> list[SparseVector]:
        if self.runner:
            return self.runner.each(inputs, lambda row, _: _sparse(row, self._keep), prompt)

        def batch(texts: list[str]) -> list[SparseVector]:
            return [_sparse(row, None) for row in self._batch(texts, prompt, task, keep=self._keep)]

        return by_length(inputs, min(self._batch_size, WIDE), batch)

    def _batch(self, texts: list[str], prompt: str, task: Task, *, keep: int | None = None) -> Floats:
        """The library's rows, float32 `[n, dimension]`: of one batch only, since a row is as wide as the vocabulary."""
        method = self._library_encode(task)
        with self._lock:
            rows = method(
                as_texts(self.model, texts),
                prompt=prompt,
                batch_size=len(texts),
                show_progress_bar=False,
                convert_to_sparse_tensor=False,
                max_active_dims=keep,
            )
        return np.asarray(rows.float().cpu().numpy(), np.float32)


def _pooling(model: Any) -> dict[str, Any] | None:
    """How a masked language model's logits become weights; None for models of other parts."""
    parts: list[Any] = list(model.children())
    unit = [type(part).__name__ for part in parts[2:]] == ["Normalize"]
    if len(parts) != 2 + unit or type(parts[1]).__name__ != "SpladePooling":
        return None
    return {"pooling": parts[1].pooling_strategy, "activation": parts[1].activation_function, "unit": unit}


def _lexicon(graph: Graph, decoder: Mapping[str, torch.Tensor], head: Mapping[str, Any]) -> Graph:
    return LexiconGraph(graph, decoder["weight"], decoder.get("bias"), **head)


def _sparse(row: Floats, keep: int | None) -> SparseVector:
    """The terms of a row, the `keep` heaviest where that is given."""
    indices = np.flatnonzero(row)
    if keep is not None and len(indices) > keep:
        indices = np.sort(indices[np.argpartition(-row[indices], keep)[:keep]])
    return SparseVector(indices.astype(np.uint32), row[indices])


# SPLADE over any masked language model.


class SpladeEncoder(LearnedSparseEncoder):
    """Term weights from a masked-language-model head: log(1 + relu), the maximum over the tokens.

    Formal et al., "SPLADE v2", https://arxiv.org/abs/2109.10086. The folder needs no file of sentence-transformers:
    config.json with a ...ForMaskedLM architecture, model.safetensors and a tokenizer are enough.

    Raises:
        ModelError: the model cannot be found, or has no masked-language-model head.
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
                do="set trained_as: sparse-encoder",
            )
        for pooling in poolings:
            pooling.pooling_strategy = self._pooling or pooling.pooling_strategy
            pooling.activation_function = self._activation or pooling.activation_function
        return model


class LexiconGraph:
    """Term weights `[n, words]` of a graph of token vectors: log(1 + relu(logit)), the maximum or sum over tokens.

    The maximum is taken over the logits themselves, block by block, since what follows does not change their order:
    the logits of all tokens over all words, a thousand times the result, are never held at once.

    Args:
        body: makes the vectors that the decoder reads, float32 `[n, tokens, width]`.
        weight: of the decoder, `[words, width]`.
        bias: of the decoder, `[words]`, None where it has none.
        pooling: max or sum over the tokens.
        activation: relu, or log1p_relu, which takes the logarithm twice.
        unit: whether the weights of a text are brought to unit length.
    """

    def __init__(
        self,
        body: Graph,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        pooling: str,
        activation: str,
        unit: bool = False,
    ) -> None:
        self.body, self.numerics, self._pooling, self._unit = body, body.numerics, pooling, unit
        self._twice = activation == "log1p_relu"
        self._weight = weight.to(torch.bfloat16) if body.numerics.split()[1:2] == ["bfloat16"] else weight
        self._bias = None if bias is None else bias.float()

    def __call__(self, inputs: NDArray[np.int64], mask: NDArray[np.int64]) -> Floats:
        """Weights of all words, float32 `[n, words]`."""
        vectors = self.body(inputs, mask)
        rows = np.empty((len(mask), len(self._weight)), np.float32)
        step = max(1, TOKENS // mask.shape[1])
        with torch.inference_mode():
            for start in range(0, len(mask), step):
                part = slice(start, start + step)
                weights = self._pooled(torch.from_numpy(vectors[part]), torch.from_numpy(mask[part])).float()
                if self._unit:
                    weights = torch.nn.functional.normalize(weights, dim=1)
                rows[part] = weights.cpu().numpy()
        return rows

    def _pooled(self, vectors: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        real = mask.bool().to(self._weight.device)
        vectors = vectors.to(self._weight.device, self._weight.dtype)
        if self._pooling == "max":  # padding is replaced by the row's first token, which changes no maximum
            vectors = torch.where(real[:, :, None], vectors, vectors[:, :1])
        n, tokens, width = vectors.shape
        columns = vectors.reshape(n * tokens, width).T.contiguous()
        pooled = torch.empty((n, len(self._weight)), device=self._weight.device)
        for start in range(0, len(self._weight), BLOCK):
            block = slice(start, start + BLOCK)
            logits = torch.mm(self._weight[block], columns).view(-1, n, tokens)
            bias = 0.0 if self._bias is None else self._bias[block, None]
            if self._pooling == "max":
                pooled[:, block] = self._activated(logits.amax(2).float() + bias).T
            else:
                weights = self._activated(logits.float() + (bias if isinstance(bias, float) else bias[:, :, None]))
                pooled[:, block] = (weights * real).sum(2).T
        return pooled

    def _activated(self, logits: torch.Tensor) -> torch.Tensor:
        weights = logits.relu_().log1p_()
        return weights.log1p_() if self._twice else weights
