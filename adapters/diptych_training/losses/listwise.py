"""Losses in which the documents of a list compete for one query: listwise, and soft top-k."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from diptych.errors import ContractError
from diptych_training.losses.base import RetrievalLoss, mean_of_rows
from diptych_training.relevance import Relevance

STEPS = 60  # of bisection; float64 has no more to give

Target: TypeAlias = Literal["relevance", "scores"]


def listwise(scores: Tensor, target: Tensor) -> Tensor:
    """The mean over rows of `-sum_j t_j log softmax(scores)_j`; a scalar.

    Args:
        scores: `[B, C]`; -inf where a shorter row has no document.
        target: `[B, C]`, each row a distribution over its documents, or all 0: such a row does not count.
    """
    logs = scores.log_softmax(1).masked_fill(scores.isinf(), 0.0)
    counted = target.sum(1) > 0
    return -(target * logs).sum() / counted.sum().clamp(min=1)


class ListwiseLoss(torch.nn.Module):
    """Softmax cross-entropy over each row's documents, for sentence-transformers' CrossEncoderTrainer.

    With `target="relevance"` the relevant documents of a row (label above 0) share the target evenly: `-log softmax(f)`
    of the positive, the ranker's step of AR2 (Zhang et al., ICLR 2022), where there is one. With `target="scores"` it
    is `softmax(labels / temperature)`, a teacher's distribution (Hinton et al. 2015; ListNet: Cao et al., ICML 2007).

    Requirements: a column of queries and a column of lists of documents; labels: a list of numbers, one a document.

    Args:
        model: CrossEncoder with one label.
        target: what the labels are, see above.
        temperature: of the labels with `target="scores"`.
        mini_batch_size: pairs that are read at a time; None reads the whole batch at once.
    """

    def __init__(
        self,
        model: Any,
        *,
        target: Target = "relevance",
        temperature: float = 1.0,
        mini_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if target not in get_args(Target):
            raise ContractError("unknown target", where="ListwiseLoss", got=target, expected="relevance, scores")
        self.model, self.target, self.temperature = model, target, temperature
        self.mini_batch_size = mini_batch_size

    def forward(
        self, inputs: Sequence[Any], labels: Sequence[Tensor], prompt: str | None = None, task: str | None = None
    ) -> Tensor:
        """The loss of a batch.

        Args:
            inputs: queries `[B]`, and lists of their documents.
            labels: of each row, a number for each document.
            prompt, task: of the trainer, for the model.

        Raises:
            ContractError: other columns, or rows whose labels do not fit.
        """
        counts = _counts(inputs, labels)
        pairs = [(query, text) for query, texts in zip(*inputs, strict=True) for text in texts]
        size = self.mini_batch_size or len(pairs)
        parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        scores = torch.cat([self._scores(part, prompt, task) for part in parts]).float()
        rows = torch.nn.utils.rnn.pad_sequence(
            list(torch.split(scores, counts)), batch_first=True, padding_value=-torch.inf
        )
        numbers = [row.to(scores.device).float() for row in labels]
        padded = torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True, padding_value=-torch.inf)
        if self.target == "scores":
            return listwise(rows, (padded / self.temperature).softmax(1))
        relevant = (padded > 0).float()
        return listwise(rows, relevant / relevant.sum(1, keepdim=True).clamp(min=1))

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        return {"target": self.target, "temperature": self.temperature, "mini_batch_size": self.mini_batch_size}

    def _scores(self, pairs: Sequence[tuple[str, str]], prompt: str | None, task: str | None) -> Tensor:
        features = self.model.preprocess(list(pairs), prompt=prompt, task=task)
        scores: Tensor = self.model({name: _moved(value, self.model.device) for name, value in features.items()})[
            "scores"
        ]
        return scores.view(-1)


def _moved(value: Any, device: Any) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _counts(inputs: Sequence[Any], labels: Sequence[Tensor]) -> list[int]:
    """Number of documents in each row."""
    columns = len(inputs)
    counts = [len(texts) for texts in inputs[1]] if columns == 2 and not isinstance(inputs[1][0], str) else []
    label_counts = [label.numel() for label in labels]
    if not counts or counts != label_counts or 0 in counts:
        raise ContractError(
            "the rows must hold queries, documents and labels",
            where="ListwiseLoss",
            got=f"{columns} columns, documents {counts[:8]}, labels {label_counts[:8]}",
            expected="a query, a list of documents, and as many labels",
        )
    return counts


class _LogSoftTopK(torch.autograd.Function):
    """`log_soft_top_k` with its implicit gradient: t moves with the scores."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, k: Tensor, alpha: float) -> Tensor:
        """t by bisection, then log p."""
        counted = scores > -torch.inf
        low = -scores.max(1).values - 30 / alpha
        high = -scores.masked_fill(~counted, torch.inf).min(1).values + 30 / alpha
        for _ in range(STEPS):
            middle = (low + high) / 2
            too_many = torch.sigmoid(alpha * (scores + middle[:, None])).sum(1) > k
            low, high = torch.where(too_many, low, middle), torch.where(too_many, middle, high)
        logs = torch.nn.functional.logsigmoid(alpha * (scores + ((low + high) / 2)[:, None]))
        ctx.save_for_backward(logs)
        ctx.alpha = alpha
        return logs

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the scores."""
        (logs,) = ctx.saved_tensors
        share = logs.exp()
        rest = 1 - share
        direct = ctx.alpha * upstream[0] * rest
        weight = share * rest
        moved = direct.sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny)
        return direct - weight * moved, None, None


def log_soft_top_k(scores: Tensor, k: Tensor, alpha: float) -> Tensor:
    """log p of `p_j = sigmoid(alpha (x_j + t))`, with t such that the p of a row add up to k.

    Args:
        scores: `[B, M]`, -inf for what does not count.
        k: `[B]`, above 0 and below the number of scores that count.
        alpha: slope.
    """
    apply: Callable[..., Tensor] = _LogSoftTopK.apply  # annotated in some releases of torch only
    return apply(scores, k, alpha)


class SoftTopKLoss(RetrievalLoss):
    """The mean over a row's positives of -log p, p the soft top-k of its scores.

    The probability that a positive is among the k best. DEXML: Gupta et al., "Dual-Encoders for Extreme Multi-Label
    Classification", ICLR 2024.

    Requirements: (query, positive) or (query, positive, negative_1, ...) columns; labels: none, or ids `[B, 2 + H]`.

    Args:
        model: that is trained.
        k: how many are the best; None takes each row's number of positives. Below the number of candidates.
        alpha: slope, on similarities that are divided by `tau`.
        tau: temperature.
        sample_positives: how many positives of a row are drawn for a step, the others left out; None takes all.
        relevance, similarity: see `RetrievalLoss`.
    """

    def __init__(
        self,
        model: Any,
        *,
        k: int | None = 5,
        alpha: float = 2.0,
        tau: float = 0.05,
        sample_positives: int | None = None,
        relevance: Relevance | None = None,
        similarity: str = "cosine",
    ) -> None:
        super().__init__(model, relevance=relevance, similarity=similarity)
        self.k, self.alpha, self.tau, self.sample_positives = k, alpha, tau, sample_positives

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch; rows with fewer than k + 1 candidates do not count."""
        similarity, candidates = self.masked(embeddings, labels)
        candidates = candidates if self.sample_positives is None else candidates.sampled(self.sample_positives)
        counted = candidates.positive | candidates.negative
        sizes, positives = counted.sum(1), candidates.positive.sum(1)
        k = positives if self.k is None else torch.full_like(sizes, self.k)
        rows = (positives > 0) & (k < sizes)
        scores = (similarity / self.tau).masked_fill(~counted, -torch.inf)
        logs = log_soft_top_k(scores, torch.minimum(k, sizes - 1).to(scores), self.alpha)
        row_logs = torch.where(candidates.positive, logs, torch.zeros_like(logs)).sum(1)
        return mean_of_rows(-row_logs / positives.clamp(min=1), rows)
