"""`dexml`: a dense encoder for queries with many relevant documents, against all documents or a pool of them.

Source: Gupta et al., "Dual-Encoders for Extreme Multi-Label Classification", ICLR 2024.
See docs/research/methods/dexml.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch import Tensor
from transformers import TrainerCallback

from diptych.errors import ConfigError
from diptych_training.losses import ContrastiveLoss, RetrievalLoss
from diptych_training.losses.base import mean_of_rows
from diptych_training.options import AboveZero, Positive, RetrievalOptions, Section
from diptych_training.recipes.base import RetrievalTraining
from diptych_training.relevance import Relevance
from diptych_training.running import Fitted
from diptych_training.running.families import prompts_of_sides

Vectors = NDArray[np.floating[Any]]
FILE = "refresh-{}.npy"
STEPS = 60  # of bisection; float64 has no more to give
BLOCK = 1024  # queries that are compared at a time
Rows = NDArray[np.int64]

FromZero = Annotated[int, Field(ge=0)]
PoolSize = Annotated[int | None, Field(ge=1, description="Maximum documents per batch; null takes all.")]


class PoolOptions(Section):
    """The documents that a batch is compared with; see `diptych_training.recipes.dexml.LabelPool`."""

    size: PoolSize = 3000
    num_pos: Positive = Field(3, description="Maximum positives per query in the pool.")
    num_neg: FromZero = Field(6, description="Hard negatives per query in the pool.")
    refresh_every: Positive = Field(5, description="Epochs between updates of hard negatives.")
    mine_from: FromZero = Field(0, description="First epoch with hard negatives, from 0.")
    depth: Positive | None = Field(None, description="Hard negatives kept per query; null is num_neg * refresh_every.")


class PoolingOptions(RetrievalOptions):
    """Options of recipes with a pool."""

    pool: PoolOptions = Field(default_factory=PoolOptions)

    shared: ClassVar[bool] = True
    refused: ClassVar[tuple[str, ...]] = ("negatives",)

    @model_validator(mode="after")
    def _negatives_of_the_pool(self) -> Self:
        if "negatives" in self.model_fields_set:
            raise ValueError("negatives are mined during training: leave the section out, see pool")
        return self


P = TypeVar("P", bound=PoolingOptions)


class Pooling(RetrievalTraining[P]):
    """A recipe whose rows are queries, and whose batches have a pool; a subclass chooses pool and loss."""

    def data_steps(self) -> list[str]:
        """Have synthetic queries written, if configured; negatives are found during training."""
        return self._write_queries()

    @cached_property
    def pool(self) -> LabelPool:
        """The pool of the queries that are trained."""
        positives, options = self.data.relevant_numbers(), self.options.pool
        sizes = {"size": options.size, "num_pos": options.num_pos, "num_neg": options.num_neg}
        return LabelPool(positives, documents=len(self.data.documents), seed=self.options.seed, **sizes)  # type: ignore[arg-type]

    def rows(self) -> Any:
        """A row for each query: its text, and its number as `label`."""
        from datasets import Dataset

        texts = list(self.data.queries.values())
        numbers = list(self.pool.positives)
        return Dataset.from_dict({"query": [texts[number] for number in numbers], "label": numbers})

    def fit(self, model: Any) -> Fitted:
        """Train on the queries."""
        rows = self.rows()
        texts = list(self.data.documents.values())
        prompts = {side: text for side, text in prompts_of_sides(model).items() if text}
        options, folder = self.options.pool, self.folder.path / "data"
        refresh = PoolRefresh(model, list(rows["query"]), texts, self.pool, options, folder)
        fitted = self.fitted(
            model,
            rows,
            self.loss(model),
            sampler=ShuffledBatches,
            collator=PoolCollator(model.preprocess, self.pool, texts, prompts=prompts),
            more_callbacks=[refresh] if options.size else [],
            changes=self.changes(),
        )
        if self.pool.dropped:
            share = f"{self.pool.dropped_share:.1%}"
            self.remarks.append(
                f"pools of {self.pool.size} documents left out {share} of the positives that were drawn"
            )
        return fitted

    def changes(self) -> dict[str, Any]:
        """Arguments of the trainer beside those of the `training` section."""
        return {}


class LossOptions(Section):
    """Which of the two losses; see `ContrastiveLoss` and `SoftTopKLoss`."""

    name: Literal["decoupled_softmax", "soft_topk"] = Field("decoupled_softmax", description="Loss to use.")
    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")
    k: Positive = Field(5, description="With soft_topk: size of the top, and positives drawn per query and step.")
    alpha: AboveZero = Field(2.0, description="With soft_topk: slope.")


class WholePool(PoolOptions):
    """All documents by default."""

    size: PoolSize = None


class Options(PoolingOptions):
    """Options of `dexml`."""

    loss: LossOptions = Field(default_factory=LossOptions)
    pool: WholePool = Field(default_factory=WholePool)


class Dexml(Pooling[Options]):
    """Trains a dense encoder by decoupled softmax or soft top-k."""

    name: ClassVar[str] = "dexml"

    def data_steps(self) -> list[str]:
        """The data steps with a pool; raises if soft top-k would include all documents.

        Raises:
            ConfigError: all documents of a batch are among the k best.
        """
        k, largest = self.options.loss.k, min(len(self._judged[0].documents), self.options.pool.size or sys.maxsize)
        if self.options.loss.name == "soft_topk" and k >= largest:
            raise ConfigError(
                "k covers all documents, so nothing is learned",
                where="loss.k",
                got=f"{k}, and {largest:,} documents that a query is compared with",
                expected="fewer than these",
            )
        return super().data_steps()

    def loss(self, model: Any) -> Any:
        """The loss over the pool."""
        options = self.options.loss
        common: dict[str, Any] = {"relevance": self.pool.relevance, "tau": options.tau}
        if options.name == "soft_topk":
            return SoftTopKLoss(model, k=options.k, alpha=options.alpha, **common)
        return ContrastiveLoss(model, **common)


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool: `documents` `[M]`, all distinct, and `query_rows`, the batch's queries that have a positive in it."""

    documents: Rows
    query_rows: Rows


class LabelPool:
    """Draws the pool of a batch.

    1. The positives of the batch's queries, at most `num_pos` of each, drawn evenly, are joined.
    2. If these are more than `size`, those that most queries of the batch share stay.
    3. If they are fewer, hard negatives are added, `num_neg` of each query, those that most queries share first.
    4. The loss, which has all judgements, decides which document of the pool is relevant to which query.
    5. Queries without a positive in the pool leave the batch.

    The same batch gives the same pool. `negatives` has the hard negatives of each query, without its positives; it is
    empty until it is filled, for example by `diptych_training.recipes.dexml.PoolRefresh`.

    Args:
        positives: for each query's number those of its documents, at least one.
        documents: how many there are.
        size: the most documents of a pool; None takes all documents, and the other options have no effect.
        num_pos, num_neg: of each query.
        seed: of the draws.
    """

    def __init__(
        self,
        positives: Mapping[int, Sequence[int]],
        *,
        documents: int,
        size: int | None = None,
        num_pos: int = 3,
        num_neg: int = 6,
        seed: int = 0,
    ) -> None:
        self.positives = {query: np.unique(np.asarray(ids, np.int64)) for query, ids in positives.items()}
        self.documents, self.size, self.num_pos, self.num_neg, self.seed = documents, size, num_pos, num_neg, seed
        self.negatives: dict[int, Rows] = {}
        self.pairs = self.dropped = 0

    @property
    def relevance(self) -> Relevance:
        """All positives, for the loss."""
        return Relevance((query, int(document)) for query, ids in self.positives.items() for document in ids)

    @property
    def dropped_share(self) -> float:
        """The share of all drawn positives that rule 2 has left out."""
        return self.dropped / max(1, self.pairs)

    def draw(self, queries: Sequence[int]) -> Pool:
        """The pool of a batch of queries."""
        documents = np.arange(self.documents) if self.size is None else self._pooled_documents(queries, self.size)
        query_rows = [place for place, query in enumerate(queries) if np.isin(self.positives[query], documents).any()]
        return Pool(documents, np.array(query_rows, np.int64))

    def _pooled_documents(self, queries: Sequence[int], size: int) -> Rows:
        random = np.random.default_rng((self.seed, *queries))
        positives, counts = _by_frequency(random, [self.positives[query] for query in queries], self.num_pos)
        self.pairs, self.dropped = self.pairs + int(counts.sum()), self.dropped + int(counts[size:].sum())
        if len(positives) >= size:
            return positives[:size]
        hard_negatives = [self.negatives[query] for query in queries if query in self.negatives]
        negatives, _ = _by_frequency(random, hard_negatives, self.num_neg)
        return np.concatenate([positives, negatives[~np.isin(negatives, positives)][: size - len(positives)]])


class PoolCollator:
    """Makes batches of rows with a pool of documents: `data_collator` of a sentence-transformers trainer.

    Rows have a text `query` and in `label` the query's number, alone or as the first of several; other columns are not
    read.

    Args:
        preprocess: the model's: texts to features.
        pool: draws the documents.
        texts: of the documents, by number.
        prompts: of `query` and `document`.
    """

    def __init__(
        self,
        preprocess: Callable[..., Mapping[str, Any]],
        pool: LabelPool,
        texts: Sequence[str],
        *,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        self.preprocess, self.pool, self.texts, self.prompts = preprocess, pool, texts, prompts or {}
        self.valid_label_columns = ["label"]

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Features of both columns, and the ids int64 `[B + M]`, queries first."""
        numbers = [int(np.ravel(row["label"])[0]) for row in rows]
        pool = self.pool.draw(numbers)
        batch: dict[str, Any] = {}
        queries = [str(rows[index]["query"]) for index in pool.query_rows]
        for name, texts in (("query", queries), ("document", [self.texts[document] for document in pool.documents])):
            features = self.preprocess(texts, prompt=self.prompts.get(name), task=name)
            batch |= {f"{name}_{key}": value for key, value in features.items()} | {f"{name}_task": name}
        ids = [*(numbers[index] for index in pool.query_rows), *pool.documents.tolist()]
        return batch | {"label": torch.tensor(ids, dtype=torch.int64)}


def _by_frequency(random: np.random.Generator, lists: Sequence[Rows], limit: int) -> tuple[Rows, Rows]:
    """At most so many of each, drawn evenly: the values by frequency, ties in any order, and the frequencies."""
    samples = [ids if len(ids) <= limit else random.choice(ids, limit, replace=False) for ids in lists]
    values, counts = np.unique(np.concatenate([np.zeros(0, np.int64), *samples]), return_counts=True)
    order = np.lexsort((random.random(len(values)), -counts))
    return values[order], counts[order]


def hard_negatives(
    queries: Vectors, documents: Vectors, positives: Mapping[int, Rows], depth: int
) -> dict[int, NDArray[np.int64]]:
    """For each query's number its `depth` most similar documents (inner product) that are no positives of it.

    Args:
        queries, documents: embeddings `[n, D]` and `[L, D]`, in the order of `positives` and by number.
    """
    numbers, negatives = list(positives), {}
    reach = min(len(documents), depth + max(map(len, positives.values()), default=0))
    for start in range(0, len(numbers), BLOCK):
        scores = queries[start : start + BLOCK] @ documents.T
        nearest = np.argpartition(-scores, reach - 1, axis=1)[:, :reach]
        order = np.argsort(-np.take_along_axis(scores, nearest, 1), axis=1, kind="stable")
        for number, ranked in zip(numbers[start : start + BLOCK], np.take_along_axis(nearest, order, 1), strict=True):
            negatives[number] = ranked[~np.isin(ranked, positives[number])][:depth].astype(np.int64)
    return negatives


class ShuffledBatches(DefaultBatchSampler):
    """Each row once an epoch, in an order of the seed and the epoch: `batch_sampler` of the training arguments."""

    def __init__(self, dataset: Any, batch_size: int, drop_last: bool, *, seed: int = 0, **_: Any) -> None:
        super().__init__(dataset, batch_size, drop_last, seed=seed)
        self._rows = len(dataset)

    def __iter__(self) -> Iterator[list[int]]:
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self._rows)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size].tolist()

    def __len__(self) -> int:
        full, rest = divmod(self._rows, self.batch_size)
        return full + (rest > 0 and not self.drop_last)


class PoolRefresh(TrainerCallback):
    """Every few epochs embeds queries and documents with the current model, for new hard negatives.

    They are stored in `folder`: a training that is resumed within an epoch uses those with which that epoch began, so
    that it ends like one that was never killed.

    Args:
        model: that is trained.
        queries: their texts, in the order of `pool.positives` and of the data set's rows.
        documents: their texts, by number.
        pool: whose hard negatives are filled.
        options: epochs from one to the next, the first that has hard negatives, and how many of each query.
        folder: for what was found.
    """

    _last_start = -1

    def __init__(
        self,
        model: Any,
        queries: Sequence[str],
        documents: Sequence[str],
        pool: LabelPool,
        options: PoolOptions,
        folder: Path,
    ) -> None:
        self.model, self.queries, self.documents, self.pool = model, queries, documents, pool
        self.options, self.folder = options, folder
        self.depth = options.depth or pool.num_neg * options.refresh_every

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Find negatives, if it is time."""
        epoch = int(state.epoch or 0)
        start = epoch - (epoch - self.options.mine_from) % self.options.refresh_every
        if epoch < self.options.mine_from or start <= self._last_start:
            return
        self._last_start, file = start, self.folder / FILE.format(start)
        # What was stored before this epoch has begun is another training's.
        if (state.epoch or 0) > start and file.is_file():
            negatives: NDArray[np.int64] = np.load(file, allow_pickle=False)
        else:
            negatives = self.negatives(bf16=bool(getattr(args, "bf16", False)))
            file.parent.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(".part.npy")
            np.save(part, negatives, allow_pickle=False)
            part.replace(file)
        self.pool.negatives = {
            number: ids[ids >= 0] for number, ids in zip(self.pool.positives, negatives, strict=True)
        }

    def negatives(self, *, bf16: bool) -> NDArray[np.int64]:
        """Negatives `[n, depth]` by the current model, filled up with -1."""
        kwargs: dict[str, Any] = {"batch_size": 64, "show_progress_bar": False, "normalize_embeddings": True}
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=bf16):
            queries = self.model.encode_query(list(self.queries), convert_to_numpy=False, **kwargs)
            documents = self.model.encode_document(list(self.documents), convert_to_numpy=False, **kwargs)
        asked, known = (torch.stack(list(vectors)).float().cpu().numpy() for vectors in (queries, documents))
        mined = hard_negatives(asked, known, self.pool.positives, self.depth)
        negatives = np.full((len(mined), self.depth), -1, np.int64)
        for row, ids in enumerate(mined.values()):
            negatives[row, : len(ids)] = ids
        return negatives


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
        k: how many are the best, and how many positives of a row are drawn for a step, the others left out.
        alpha: slope, on similarities that are divided by `tau`.
        common: see `RetrievalLoss`.
    """

    def __init__(self, model: Any, *, k: int = 5, alpha: float = 2.0, **common: Any) -> None:
        super().__init__(model, **common)
        self.k, self.alpha = k, alpha

    def compute_loss_from_embeddings(self, embeddings: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
        """The loss of a batch; rows with fewer than k + 1 candidates do not count."""
        similarity = self.similarities(*self.prepared(embeddings))
        candidates = self.candidates(embeddings, labels).sampled(self.k)
        counted = candidates.positive | candidates.negative
        sizes, positives = counted.sum(1), candidates.positive.sum(1)
        rows = (positives > 0) & (sizes > self.k)
        scores = (similarity / self.tau).masked_fill(~counted, -torch.inf)
        logs = log_soft_top_k(scores, (sizes - 1).clamp(max=self.k).to(scores), self.alpha)
        row_logs = torch.where(candidates.positive, logs, torch.zeros_like(logs)).sum(1)
        return mean_of_rows(-row_logs / positives.clamp(min=1), rows)
