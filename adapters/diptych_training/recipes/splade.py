"""`splade`: a lexicon of term weights, trained contrastively, kept sparse by FLOPS.

Formal et al., "SPLADE v2" and "From Distillation to Hard Negative Sampling", 2021 and 2022.
See docs/research/methods/splade.md.

It trains the lexicon's head without storing the logits of all tokens over all words. sentence-transformers decodes
every token to the whole vocabulary, keeps those rows for the gradient, and takes the logarithm of all of them: of 32
texts of 256 tokens a billion bytes, several times. Here the maximum over the tokens is taken block by block of the
vocabulary, over the logits themselves since what follows keeps their order, and the gradient goes to the one token that
gave each term, of the terms that have one. A lexicon's terms are few.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import torch
from pydantic import Field
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router
from sentence_transformers.sparse_encoder.callbacks.splade_callbacks import SpladeRegularizerWeightSchedulerCallback
from sentence_transformers.sparse_encoder.losses import SpladeLoss
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling
from sentence_transformers.util import batch_to_device
from torch import Tensor
from transformers import TrainerCallback

from diptych.errors import ContractError
from diptych.protocols import Kind
from diptych.training import Registration
from diptych_training.losses import ContrastiveLoss
from diptych_training.options import AboveZero, RetrievalOptions, Section
from diptych_training.recipes.base import RetrievalTraining
from diptych_training.running import Fitted
from diptych_training.running.families import forward_kept, routes_of

Queries: TypeAlias = Literal["encoder", "bag", "static"]

TOKENS = 1024  # decoded together, so that their logits over a block of the lexicon stay in the processor's cache
BLOCK = 2048  # words that are decoded together
LOCAL: dict[str, Any] = {"local_files_only": True, "model_kwargs": {"use_safetensors": True}}
NEAR = 1e-3  # how far the weights of a trial may be from the library's
Weight = Annotated[float, Field(ge=0)]
Ramp = Annotated[float, Field(gt=0, le=1)]


class LossOptions(Section):
    """The contrastive loss, by dot products."""

    tau: AboveZero = Field(1.0, description="Temperature: dot products are divided by it.")


class SparsityOptions(Section):
    """FLOPS: the square of a term's mean weight, over all terms; more of it, fewer terms."""

    query: Weight = Field(0.1, description="Weight of the queries' FLOPS penalty.")
    document: Weight = Field(0.08, description="Weight of the documents' FLOPS penalty.")
    ramp: Ramp = Field(0.3, description="Share of the steps in which the weights rise, by the square of the steps.")


class Options(RetrievalOptions):
    """Options of `splade`."""

    queries: Queries = Field(
        "encoder",
        description="How to encode queries: like documents; as their tokens, each with weight 1; or as their tokens "
        "with trained weights. The last two need no network.",
    )
    loss: LossOptions = Field(default_factory=LossOptions)
    sparsity: SparsityOptions = Field(default_factory=SparsityOptions)

    whole: ClassVar[str] = "does not go with FLOPS of a batch: leave it out, and make batch_size smaller"


class Splade(RetrievalTraining[Options]):
    """Trains a lexicon."""

    name: ClassVar[str] = "splade"
    kind: ClassVar[Kind] = "sparse"

    def model(self) -> Any:
        """The lexicon; static queries start from how rare each token is in the documents."""
        base, queries = super().model(), self.options.queries
        documents = self._judged[0].documents  # `data` may still have to ask this model for queries
        texts = (text for text in documents.values() if text)
        new = queries == "static" and not routes_of(base, ["query"])
        return lexicon(base, queries=queries, idf=inverse_frequencies(texts, base.tokenizer) if new else None)

    def fit(self, model: Any) -> Fitted:
        """Train on the rows, with the ramp of both penalties."""
        rows, loss = self.rows(), self.loss(model)
        ramp = SpladeRegularizerWeightSchedulerCallback(loss, warmup_ratio=self.options.sparsity.ramp)
        callbacks = [ramp, ActiveTerms(loss), NonNegative(*static_weights(model))]
        with blockwise(model):
            return self.fitted(model, rows, loss, more_callbacks=callbacks)

    def loss(self, model: Any) -> Any:
        """The contrastive loss and both penalties."""
        sparsity = self.options.sparsity
        tau, relevance = self.options.loss.tau, self.data.relevance()
        main = ContrastiveLoss(model, tau=tau, similarity="dot", relevance=relevance)
        return sparse_loss(model, main, query_weight=sparsity.query, document_weight=sparsity.document)

    def export(self, model: Any) -> list[Registration]:
        """Save it; a model with a separate query side is served by the adapter of such models."""
        (saved,) = super().export(model)
        masked = {"trained_as": "masked-lm", **saved.options}
        return [saved if routes_of(model, ["query"]) else Registration(saved.adapter, masked)]


class MaxLogits(torch.autograd.Function):
    """The greatest logit of each word over the tokens of each text, `[n, words]` in float32 or finer."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, weight: Tensor, bias: Tensor | None, mask: Tensor) -> Tensor:
        """The maxima.

        Args:
            vectors: what the decoder reads, `[n, tokens, width]`.
            weight, bias: of the decoder, `[words, width]` and `[words]`.
            mask: bool `[n, tokens]`; every text has a token.
        """
        # The precision of the logits: autocast's if it is on.
        device = vectors.device.type
        ctx.kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else vectors.dtype
        ctx.save_for_backward(vectors, weight, mask)
        ctx.biased = bias is not None
        # Padding is replaced by the text's first token, which changes no maximum.
        first = vectors[torch.arange(len(vectors), device=vectors.device), mask.int().argmax(1)]
        padded = torch.where(mask[:, :, None], vectors, first[:, None]).to(ctx.kind)
        decoder, step = weight.to(ctx.kind), max(1, TOKENS // mask.shape[1])
        maxima = torch.cat([_maxima(padded[start : start + step], decoder) for start in range(0, len(padded), step)])
        maxima = maxima.to(torch.promote_types(vectors.dtype, torch.float32))
        return maxima if bias is None else maxima + bias

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        """The gradients, text by text, of the terms that have one."""
        (gradient,) = gradients
        vectors, weight, mask = ctx.saved_tensors
        of_vectors = torch.zeros_like(vectors, dtype=gradient.dtype)
        of_weight = torch.zeros_like(weight, dtype=gradient.dtype)
        for row, row_gradient in enumerate(gradient):
            terms, tokens = row_gradient.nonzero()[:, 0], mask[row].nonzero()[:, 0]
            token_vectors, rows, part = vectors[row, tokens], weight[terms], row_gradient[terms, None]
            places = (token_vectors.to(ctx.kind) @ rows.to(ctx.kind).T).argmax(0)
            of_weight[terms] += part * token_vectors[places]
            of_vectors[row].index_add_(0, tokens[places], part * rows)
        of_bias = gradient.sum(0) if ctx.biased else None
        return of_vectors.to(vectors.dtype), of_weight.to(weight.dtype), of_bias, None


def max_logits(vectors: Tensor, decoder: torch.nn.Linear, mask: Tensor) -> Tensor:
    """The greatest logit of each word over the tokens of each text; see `MaxLogits`."""
    apply: Callable[..., Tensor] = MaxLogits.apply  # annotated in some releases of torch only
    return apply(vectors, decoder.weight, decoder.bias, mask.bool())


@contextmanager
def blockwise(model: Any) -> Iterator[bool]:
    """Within the block a SparseEncoder decodes and pools piece by piece; yields whether it does.

    The model's parameters and saved form do not change. A model whose answers to a trial would change stays as it is:
    one that pools by sums, or whose network does more after its decoder.

    Args:
        model: SparseEncoder; routes are looked into.
    """
    parts = list(model.children())
    routes = [list(route) for part in parts if hasattr(part, "sub_modules") for route in part.sub_modules.values()]
    heads = [head for pipeline in (parts, *routes) if (head := _head(pipeline)) is not None]
    with ExitStack() as stack:
        expected = [head.trial() for head in heads]
        for head in heads:
            # The logits are then the vectors before the decoder.
            for module, forward in ((head.decoder, lambda vectors: vectors), (head.pooling, head.pooled)):
                stack.enter_context(forward_kept(module))
                setattr(module, "forward", forward)  # noqa: B010  # mypy takes a method for unassignable
        same = all(
            torch.allclose(weights, head.trial(), atol=NEAR) for weights, head in zip(expected, heads, strict=True)
        )
        if not same:
            stack.close()
        yield bool(heads) and same


@dataclass(frozen=True, slots=True)
class _Head:
    """A masked language model of a pipeline, its decoder and its pooling."""

    transformer: Any
    decoder: torch.nn.Linear
    pooling: SpladePooling

    def pooled(self, features: dict[str, Any]) -> dict[str, Any]:
        """The pooling for undecoded vectors. A bound method, so that a copy of the model gets its own."""
        logits = max_logits(features["token_embeddings"], self.decoder, features["attention_mask"])
        weights = logits.relu().log1p()
        features["sentence_embedding"] = (
            weights.log1p() if self.pooling.activation_function == "log1p_relu" else weights
        )
        self.pooling.embedding_dimension = weights.shape[1]
        return features

    def trial(self) -> Tensor:
        """Term weights of two texts, with the present weights."""
        trained = self.transformer.training
        self.transformer.eval()
        features = self.transformer.preprocess(["a trial", "of a longer text than the other one"])
        inputs = batch_to_device(features, self.decoder.weight.device)
        with torch.no_grad():
            weights: Tensor = self.pooling(self.transformer(inputs))["sentence_embedding"].float()
        self.transformer.train(trained)
        return weights


def _head(parts: list[Any]) -> _Head | None:
    pooling = parts[1] if len(parts) > 1 else None
    if not isinstance(pooling, SpladePooling) or pooling.pooling_strategy != "max":
        return None
    network: Any = getattr(parts[0], "auto_model", None)
    decoder = network.get_output_embeddings() if hasattr(network, "get_output_embeddings") else None
    return _Head(parts[0], decoder, pooling) if isinstance(decoder, torch.nn.Linear) else None


def _maxima(vectors: Tensor, weight: Tensor) -> Tensor:
    """The greatest products `[n, words]` in the precision given.

    Rounding keeps the order, so that the maximum of rounded products is that which float32 would find among them.
    """
    n, tokens, width = vectors.shape
    columns = vectors.reshape(n * tokens, width).T.contiguous()
    starts = range(0, len(weight), BLOCK)
    return torch.cat([torch.mm(weight[s : s + BLOCK], columns).view(-1, n, tokens).amax(2) for s in starts]).T


def lexicon(
    source: SparseEncoder | str | Path, *, queries: Queries = "encoder", idf: Tensor | None = None
) -> SparseEncoder:
    """The lexicon to train over a masked language model, or over a lexicon; one with a Router keeps its ways.

    Args:
        source: a model of sentence-transformers, or a folder with config.json, model.safetensors and a tokenizer, which
            is loaded for the CPU.
        queries: see `Options`.
        idf: `[words]`, the first weights of static queries; see `inverse_frequencies`.

    Raises:
        ContractError: the model has no masked-language-model head.
    """
    model = source if isinstance(source, SparseEncoder) else SparseEncoder(str(source), device="cpu", **LOCAL)
    parts: list[Any] = list(model.children())
    routed = isinstance(parts[0], Router)
    if not routed and not any(isinstance(part, SpladePooling) for part in parts):
        names = ", ".join(type(part).__name__ for part in parts)
        what = "the model has no masked-language-model head"
        raise ContractError(what, where="lexicon", got=names, expected="SpladePooling")
    if queries == "encoder" or routed:
        return model
    weight = torch.ones(len(model.tokenizer)) if idf is None else idf.clone().float()
    weight[torch.tensor(model.tokenizer.all_special_ids)] = 0  # [UNK] and its like say nothing
    side = SparseStaticEmbedding(model.tokenizer, weight=weight, frozen=queries == "bag")
    modules: list[Any] = [Router.for_query_document(query_modules=[side], document_modules=parts)]
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


def flops(weights: Tensor) -> Tensor:
    """FLOPS of term weights `[B, V]`; a scalar."""
    return weights.abs().mean(0).square().sum()


class Flops(torch.nn.Module):
    """The penalty in the form of sentence-transformers' SpladeLoss; it counts the terms that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self._terms = self._texts = 0

    def compute_loss_from_embeddings(self, embeddings: Tensor) -> Tensor:
        """FLOPS of term weights `[B, V]`, in float32."""
        weights = (embeddings.to_dense() if embeddings.is_sparse else embeddings).float()
        self._terms, self._texts = self._terms + int((weights != 0).sum()), self._texts + len(weights)
        return flops(weights)

    def pop_mean(self) -> float | None:
        """The mean number of terms of the texts seen since the last call; None without any."""
        terms, texts = self._terms, self._texts
        self._terms = self._texts = 0
        return terms / texts if texts else None


def sparse_loss(model: Any, main: torch.nn.Module, *, query_weight: float, document_weight: float) -> SpladeLoss:
    """A main loss with both penalties; the weights are those after the ramp, and one of 0 still counts terms."""
    return SpladeLoss(
        model,
        main,
        document_regularizer_weight=document_weight,
        query_regularizer_weight=query_weight,
        document_regularizer=Flops(),
        query_regularizer=Flops(),
    )


class ActiveTerms(TrainerCallback):
    """Adds the mean numbers of terms of queries and documents to the trainer's logs.

    Args:
        loss: its penalties count.
    """

    def __init__(self, loss: SpladeLoss) -> None:
        self._counted: dict[str, Any] = {"query": loss.query_regularizer, "document": loss.document_regularizer}

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Add the means since the last log to `logs`."""
        if logs is None or "loss" not in logs:
            return
        means = {f"{side}_active_terms": penalty.pop_mean() for side, penalty in self._counted.items()}
        logs.update({name: round(mean, 1) for name, mean in means.items() if mean is not None})


class NonNegative(TrainerCallback):
    """Keeps trained static term weights at 0 or above, after each step.

    Args:
        parameters: of the static side.
    """

    def __init__(self, *parameters: torch.nn.Parameter) -> None:
        self._parameters = parameters

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set negative weights to 0."""
        with torch.no_grad():
            for parameter in self._parameters:
                parameter.clamp_(min=0)
