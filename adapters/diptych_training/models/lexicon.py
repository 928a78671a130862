"""Lexicons to train: SPLADE on both sides, or queries without a network.

| queries | what a query is | paper |
|---|---|---|
| `encoder` | what a document is: the masked language model's term weights | SPLADE v2: Formal et al. 2021 |
| `bag` | its tokens, each with weight 1 | SPLADE-doc: Formal et al. 2021 |
| `static` | its tokens, each with a weight that is trained, from its inverse document frequency on | Geng et al. 2024 |

What is saved is an ordinary folder of sentence-transformers: a SparseEncoder, with a Router for queries of another way.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Normalize, Router
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from torch import Tensor

from diptych.errors import ContractError

Queries: TypeAlias = Literal["encoder", "bag", "static"]


def lexicon(
    source: SparseEncoder | str | Path,
    *,
    queries: Queries = "encoder",
    idf: Tensor | None = None,
    normalize: bool = False,
) -> SparseEncoder:
    """The lexicon to train over a masked language model, or over a lexicon; one with a Router keeps its ways.

    Args:
        source: a model of sentence-transformers, or a folder with config.json, model.safetensors and a tokenizer, which
            is loaded for the CPU.
        queries: see the module's table.
        idf: `[words]`, the first weights of static queries; see `inverse_frequencies`.
        normalize: both sides at unit length, as LexLIP has it; saved with the model.

    Raises:
        ContractError: the model has no masked-language-model head, or weights without static queries.
    """
    if idf is not None and queries != "static":
        raise ContractError("IDF weights need static queries", where="lexicon", got=queries, expected="queries: static")
    model = source if isinstance(source, SparseEncoder) else _loaded(Path(source))
    parts: list[Any] = list(model.children())
    routed = isinstance(parts[0], Router)
    if not routed and not any(isinstance(part, SpladePooling) for part in parts):
        names = ", ".join(type(part).__name__ for part in parts)
        what = "the model has no masked-language-model head"
        raise ContractError(what, where="lexicon", got=names, expected="SpladePooling")
    extra = [Normalize()] if normalize and not any(isinstance(part, Normalize) for part in parts) else []
    modules = [*parts, *extra]
    if queries != "encoder" and not routed:
        side = _static(model.tokenizer, idf, frozen=queries == "bag")
        modules = [Router.for_query_document(query_modules=[side], document_modules=parts), *extra]
    if modules == parts:
        return model
    prompts: Any = model.prompts
    return SparseEncoder(modules=modules, similarity_fn_name="dot", device=str(model.device), prompts=dict(prompts))


def inverse_frequencies(texts: Iterable[str], tokenizer: Any) -> Tensor:
    """`log(1 + (N - df + .5) / (df + .5))` of each token `[words]`: in how few of the N texts it is; Lucene's form."""
    counts, number = torch.zeros(len(tokenizer)), 0
    for text in texts:
        ids = tokenizer(text, add_special_tokens=False, truncation=True, verbose=False)["input_ids"]
        counts[torch.tensor(sorted(set(ids)), dtype=torch.int64)] += 1
        number += 1
    return torch.log1p((number - counts + 0.5) / (counts + 0.5))


def static_weights(model: SparseEncoder) -> list[torch.nn.Parameter]:
    """The trained weights of static sides, to be kept at 0 or above."""
    embeddings = [module for module in model.modules() if isinstance(module, SparseStaticEmbedding)]
    return [module.weight for module in embeddings if module.weight.requires_grad]


def _loaded(folder: Path) -> SparseEncoder:
    return SparseEncoder(str(folder), device="cpu", local_files_only=True, model_kwargs={"use_safetensors": True})


def _static(tokenizer: Any, idf: Tensor | None, *, frozen: bool) -> SparseStaticEmbedding:
    weight = torch.ones(len(tokenizer)) if idf is None else idf.clone().float()
    weight[torch.tensor(tokenizer.all_special_ids)] = 0  # [UNK] and its like say nothing
    return SparseStaticEmbedding(tokenizer, weight=weight, frozen=frozen)
