"""The listwise loss of cross-encoders: the documents of a row compete for one query."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import torch
from torch import Tensor

from diptych.errors import ContractError

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

    Requirements: a column of queries, a column of lists of documents, and optionally one that says of each row whether
    its pairs are read with the document first; labels: a list of numbers, one a document.

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
            inputs: queries `[B]`, lists of their documents, and, if rows are reversed, a truth value for each row.
            labels: of each row, a number for each document.
            prompt, task: of the trainer, for the model.

        Raises:
            ContractError: other columns, or rows whose labels do not fit.
        """
        counts = _counts(inputs, labels)
        queries, documents = inputs[:2]
        turned = inputs[2] if len(inputs) == 3 else [False] * len(queries)
        pairs = [
            (text, query) if document_first else (query, text)
            for query, texts, document_first in zip(queries, documents, turned, strict=True)
            for text in texts
        ]
        size = self.mini_batch_size or len(pairs)
        parts = [pairs[start : start + size] for start in range(0, len(pairs), size)]
        scores = torch.cat([self._scores(part, prompt, task) for part in parts]).float()
        rows = torch.nn.utils.rnn.pad_sequence(
            list(torch.split(scores, counts)), batch_first=True, padding_value=-torch.inf
        )
        numbers = [row.to(scores.device).float() for row in labels]
        padded = torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True, padding_value=-torch.inf)
        return listwise(rows, self._distribution(padded))

    def get_config_dict(self) -> dict[str, Any]:
        """The settings for the model card."""
        return {"target": self.target, "temperature": self.temperature, "mini_batch_size": self.mini_batch_size}

    def _scores(self, pairs: Sequence[tuple[str, str]], prompt: str | None, task: str | None) -> Tensor:
        features = self.model.preprocess(list(pairs), prompt=prompt, task=task)
        scores: Tensor = self.model({name: _moved(value, self.model.device) for name, value in features.items()})[
            "scores"
        ]
        return scores.view(-1)

    def _distribution(self, labels: Tensor) -> Tensor:
        if self.target == "scores":
            return (labels / self.temperature).softmax(1)
        relevant = (labels > 0).float()
        return relevant / relevant.sum(1, keepdim=True).clamp(min=1)


def _moved(value: Any, device: Any) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def _counts(inputs: Sequence[Any], labels: Sequence[Tensor]) -> list[int]:
    """Number of documents in each row."""
    columns = len(inputs)
    fit = columns == 2 or (columns == 3 and all(isinstance(value, bool) for value in inputs[2]))
    counts = [len(documents) for documents in inputs[1]] if fit and not isinstance(inputs[1][0], str) else []
    label_counts = [label.numel() for label in labels]
    if not counts or counts != label_counts or 0 in counts:
        raise ContractError(
            "the rows are not queries with documents and labels",
            where="ListwiseLoss",
            got=f"{columns} columns, documents {counts[:8]}, labels {label_counts[:8]}",
            expected="a query, a list of documents, and as many labels",
        )
    return counts
