"""`tas_balanced`: Margin-MSE from a reranker, over batches of one topic with balanced margins.

Source: Hofstätter et al., SIGIR 2021; see docs/research/methods/tas_balanced.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.modules import Normalize

from diptych.errors import ConfigError, ContractError
from diptych_training.losses import MarginMSELoss
from diptych_training.losses.base import Features
from diptych_training.options import AboveZero, Beside, Positive, Relative, Section
from diptych_training.recipes.reranker_scores import (
    DistillationNegatives,
    DistillationOptions,
    DistillationTraining,
)
from diptych_training.rows import MarginRows, Rows, left_out, margin_rows, query_list
from diptych_training.running import Fitted
from diptych_training.running.families import prompts_of_sides


class TASBalanced:
    """Topic-aware balanced sampling: a batch is of one cluster of queries, a query's pair of one bin of margins.

    A cluster is drawn, then queries of it without repetition, topped up from another when it is smaller than the batch;
    for each query one of its non-empty bins, evenly, and in it a pair. Bins are of equal width between the query's own
    least and greatest margin; equal margins are one bin. Queries with fewer than two pairs are left out: `single` says
    which.

    Hofstätter et al., "Efficiently Teaching an Effective Dense Retriever with Balanced Topic Aware Sampling", SIGIR
    2021.

    Args:
        queries: the query of each row, any integers `[rows]`.
        clusters: the cluster of each row's query `[rows]`.
        margins: the teacher's score of the positive minus that of the negative `[rows]`; None draws pairs evenly (TAS).
        bins: of margins.
        clusters_per_batch: how many share a batch.

    Raises:
        ContractError: columns of different lengths, or no query with two pairs.
    """

    def __init__(
        self,
        queries: ArrayLike,
        clusters: ArrayLike,
        margins: ArrayLike | None = None,
        *,
        bins: int = 10,
        clusters_per_batch: int = 1,
    ) -> None:
        query_ids, topics = np.asarray(queries, np.int64), np.asarray(clusters, np.int64)
        scores = np.zeros(len(query_ids)) if margins is None else np.asarray(margins, np.float64)
        if not len(query_ids) == len(topics) == len(scores):
            got = f"{len(query_ids)} queries, {len(topics)} clusters, {len(scores)} margins"
            raise ContractError("the columns differ in length", where="TASBalanced", got=got, expected="one per row")
        self.clusters_per_batch, self.rows = clusters_per_batch, len(query_ids)
        rows_of = _grouped(query_ids)
        self.pairs = {query: _binned(rows, scores[rows], bins) for query, rows in rows_of.items() if len(rows) > 1}
        self.single = [query for query in rows_of if query not in self.pairs]
        topic_of = {query: int(topics[rows[0]]) for query, rows in rows_of.items()}
        paired = list(self.pairs)
        if not paired:
            raise ContractError("no query has two pairs", where="TASBalanced", got=f"{len(query_ids)} rows")
        self.topics = list(_grouped(np.array([topic_of[query] for query in paired]), np.array(paired)).values())

    def __call__(self, dataset: Any, batch_size: int, drop_last: bool, **kwargs: Any) -> Batches:
        """The sampler of one training."""
        require_rows(self.rows, dataset, "TASBalanced")
        count = max(1, len(self.pairs) // batch_size)
        return Batches(self._batch, count, dataset, batch_size, drop_last, kwargs.get("seed", 0))

    def _batch(self, random: np.random.Generator, size: int) -> list[int]:
        part = max(1, size // self.clusters_per_batch)
        chosen: list[int] = []
        for cluster in random.permutation(len(self.topics)):
            chosen += random.permutation(self.topics[cluster])[: min(part, size - len(chosen))].tolist()
            if len(chosen) >= size:
                break
        return [self._pair(random, query) for query in chosen]

    def _pair(self, random: np.random.Generator, query: int) -> int:
        bins = self.pairs[query]
        return int(random.choice(bins[random.integers(len(bins))]))


class PairedViews:
    """Rows of one group, such as the two views of Dual-View training, always in one batch.

    Args:
        groups: the group of each row, any integers `[rows]`.
    """

    def __init__(self, groups: ArrayLike) -> None:
        self.groups = list(_grouped(np.asarray(groups, np.int64)).values())

    def __call__(self, dataset: Any, batch_size: int, drop_last: bool, **kwargs: Any) -> GroupedBatches:
        """The sampler of one training.

        Raises:
            ContractError: a group is larger than a batch.
        """
        require_rows(sum(map(len, self.groups)), dataset, "PairedViews")
        largest = max(map(len, self.groups), default=0)
        if largest > batch_size:
            raise ContractError(
                "a group does not fit into a batch",
                where="PairedViews",
                got=f"{largest} rows",
                expected=f"<= {batch_size}",
            )
        return GroupedBatches(self.groups, dataset, batch_size, drop_last, kwargs.get("seed", 0))


class MixedBatches:
    """A sampler whose batches have a share of labelled rows, however few there are.

    No row is repeated within a batch; a part with fewer rows than its share gives all of them. An epoch is as long as
    the larger part takes. Kang et al. train two heads in this way, with as many labelled as unlabelled rows a step.

    Args:
        labelled: whether each row is `[rows]`.
        share: of a batch that is labelled.

    Raises:
        ContractError: one of the parts is empty.
    """

    def __init__(self, labelled: ArrayLike, *, share: float = 0.5) -> None:
        is_labelled = np.asarray(labelled, np.bool_)
        self.parts, self.share = (np.flatnonzero(is_labelled), np.flatnonzero(~is_labelled)), share
        if not all(map(len, self.parts)) or not 0 < share < 1:
            got = f"{len(self.parts[0])} labelled, {len(self.parts[1])} unlabelled, share {share}"
            raise ContractError(
                "mixed batches need rows of both kinds", where="MixedBatches", got=got, expected="rows of both kinds"
            )

    def __call__(self, dataset: Any, batch_size: int, drop_last: bool, **kwargs: Any) -> Batches:
        """The sampler of one training.

        Raises:
            ContractError: it was made for another data set.
        """
        require_rows(sum(map(len, self.parts)), dataset, "MixedBatches")
        sizes = self.sizes(batch_size)
        count = max(math.ceil(len(part) / size) for part, size in zip(self.parts, sizes, strict=True))
        return Batches(self._batch, count, dataset, batch_size, drop_last, kwargs.get("seed", 0))

    def sizes(self, batch_size: int) -> tuple[int, int]:
        """The number of rows of each part in a batch."""
        labelled = min(max(1, round(self.share * batch_size)), len(self.parts[0]), max(1, batch_size - 1))
        return labelled, min(batch_size - labelled, len(self.parts[1])) or 1

    def _batch(self, random: np.random.Generator, size: int) -> list[int]:
        parts = [
            random.choice(part, count, replace=False) for part, count in zip(self.parts, self.sizes(size), strict=True)
        ]
        return [int(row) for row in np.concatenate(parts)]


class Batches(DefaultBatchSampler):
    """A number of batches for each epoch, each drawn independently."""

    def __init__(self, draw: Any, count: int, dataset: Any, batch_size: int, drop_last: bool, seed: int) -> None:
        super().__init__(dataset, batch_size, drop_last, seed=seed)
        self._draw, self._count = draw, count

    def __iter__(self) -> Iterator[list[int]]:
        random = np.random.default_rng((self.seed, self.epoch))
        for _ in range(self._count):
            yield self._draw(random, self.batch_size)

    def __len__(self) -> int:
        return self._count


class GroupedBatches(DefaultBatchSampler):
    """Whole groups in random order, as many as fit into each batch."""

    def __init__(self, groups: Sequence[Rows], dataset: Any, batch_size: int, drop_last: bool, seed: int) -> None:
        super().__init__(dataset, batch_size, drop_last, seed=seed)
        self._groups = groups

    def __iter__(self) -> Iterator[list[int]]:
        yield from self._batches(self.epoch)

    def __len__(self) -> int:
        return sum(1 for _ in self._batches(self.epoch))

    def _batches(self, epoch: int) -> Iterator[list[int]]:
        batch: list[int] = []
        for place in np.random.default_rng((self.seed, epoch)).permutation(len(self._groups)):
            group = self._groups[place]
            if len(batch) + len(group) > self.batch_size:
                yield batch
                batch = []
            batch += group.tolist()
        if batch and not (self.drop_last and len(batch) < self.batch_size):
            yield batch


def _grouped(keys: Rows, values: Rows | None = None) -> dict[int, Rows]:
    """For each key its values, by default the row numbers."""
    groups: dict[int, list[int]] = {}
    for key, value in zip(keys.tolist(), range(len(keys)) if values is None else values.tolist(), strict=True):
        groups.setdefault(key, []).append(value)
    return {key: np.array(members) for key, members in groups.items()}


def _binned(rows: Rows, margins: NDArray[np.float64], bins: int) -> list[Rows]:
    """The rows of each bin that is not empty."""
    low, high = float(margins.min()), float(margins.max())
    if high <= low:
        return [rows]
    places = np.minimum((bins * (margins - low) / (high - low)).astype(np.int64), bins - 1)
    return [rows[places == place] for place in np.unique(places)]


def require_rows(rows: int, dataset: Any, where: str) -> None:
    """Raise a `ContractError` unless a data set has as many rows as the sampler was made for."""
    if len(dataset) != rows:
        raise ContractError(
            "the sampler was made for another data set",
            where=where,
            got=f"{len(dataset)} rows",
            expected=f"{rows} rows",
        )


InBatchTeacher: TypeAlias = Callable[[Sequence[Features]], torch.Tensor]


class DualMarginMSELoss(MarginMSELoss):
    """The squared difference of the student's and the teacher's margins, of pairs and in the batch.

    A pairwise teacher for a row's own negative, an in-batch teacher for all others. TAS-Balanced: Hofstätter et al.,
    "Efficiently Teaching an Effective Dense Retriever with Balanced Topic Aware Sampling", SIGIR 2021.

    Requirements: those of `MarginMSELoss`.

    Args:
        model: see `MarginMSELoss`.
        in_batch: gives the in-batch teacher's scores `[B, 2 B]` from the tokenised columns, without gradient.
        in_batch_weight: of that term.
    """

    def __init__(self, model: Any, *, in_batch: InBatchTeacher, in_batch_weight: float = 0.75) -> None:
        super().__init__(model)
        self.in_batch, self.in_batch_weight = in_batch, in_batch_weight

    def forward(self, sentence_features: Iterable[Features], labels: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a batch; the in-batch teacher sees the same columns."""
        features = [dict(column) for column in sentence_features]
        embeddings = [self.embedded(column, place) for place, column in enumerate(features)]
        loss = self.compute_loss_from_embeddings(embeddings, labels)
        with torch.no_grad():
            teacher = self.in_batch(features)
        student = self.similarities(*self.prepared(embeddings))
        return loss + self.in_batch_weight * in_batch_margins(student, teacher.to(student))


def in_batch_margins(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Half the sum, over positives and negatives of other rows, of the mean squared difference of margins.

    Args:
        student, teacher: scores `[B, 2 B]`: of all positives, then of all negatives.
    """
    rows = len(student)
    others = ~torch.eye(rows, dtype=torch.bool, device=student.device)
    parts = []
    for column in (slice(0, rows), slice(rows, 2 * rows)):
        target, margins = (scores.diagonal()[:, None] - scores[:, column] for scores in (teacher, student))
        parts.append((margins - target)[others].square().mean() if rows > 1 else student.sum() * 0)
    return (parts[0] + parts[1]) / 2


CLUSTERS = "clusters"
WITHIN = 0.95  # of the margins are brought within 1
PER_CLUSTER = 200  # queries, as in the paper


class SamplerOptions(Section):
    """How batches are drawn; see `diptych_experimental.tas_balanced.TASBalanced`."""

    clusters: Positive | None = Field(None, description="Query clusters; null is one per 200 queries, at least 10.")
    clusters_per_batch: Positive = Field(1, description="Clusters per batch.")
    bins: Positive = Field(10, description="Bins of margins.")
    balanced: bool = Field(True, description="Sample margins evenly; false samples pairs evenly (plain TAS).")


class LossOptions(Section):
    """See `DualMarginMSELoss`."""

    in_batch: str | None = Field(
        None, description="Dense model with the same tokenizer that teaches the margins in the batch."
    )
    teacher_scale: AboveZero | None = Field(
        None,
        description="Factor of the pairwise teacher's scores. null is 1; for models of unit vectors, whose margins are"
        " at most 2, it brings 95 of 100 margins within 1.",
    )
    in_batch_weight: float = Field(0.75, ge=0, description="Weight of the in-batch margins beside the pairs' own.")


class Negatives(DistillationNegatives):
    """As many as margins can be balanced among; the teacher, and no limit, judges those near the positive."""

    per_query: Beside = 8
    relative: Relative = None


class Options(DistillationOptions):
    """Options of `tas_balanced`."""

    negatives: Negatives = Field(default_factory=Negatives)
    sampler: SamplerOptions = Field(default_factory=SamplerOptions)
    loss: LossOptions = Field(default_factory=LossOptions)

    @model_validator(mode="after")
    def _whole_batch(self) -> Self:
        if self.loss.in_batch is not None and self.training.mini_batch_size is not None:
            raise ValueError(
                "training.mini_batch_size does not go with loss.in_batch, whose teacher sees a batch as a whole: leave "
                "one of both out"
            )
        return self


class TasBalanced(DistillationTraining[Options]):
    """Trains a dense encoder on a teacher's margins."""

    name: ClassVar[str] = "tas_balanced"

    def data_steps(self) -> list[str]:
        """Mine negatives, ask the teacher, and put queries of one topic into one cluster."""
        done = super().data_steps()
        if self.folder.stored(CLUSTERS) is not None:
            return done
        clusters = self._clusters()
        self.folder.store(CLUSTERS, ({"query": query, "cluster": cluster} for query, cluster in clusters.items()))
        return [*done, f"{len(clusters):,} queries lie in {len(set(clusters.values())):,} clusters"]

    def fit(self, model: Any) -> Fitted:
        """Train on pairs, drawn by topic and margin."""
        prepared = self.pairs()
        prepared = prepared.scaled(self._teacher_scale(model, prepared))
        options = self.options.sampler
        cluster = {self.data.query_numbers[row["query"]]: row["cluster"] for row in self.folder.stored(CLUSTERS) or ()}
        sampler = TASBalanced(
            prepared.queries,
            np.array([cluster[query] for query in prepared.queries.tolist()]),
            prepared.margins if options.balanced else None,
            bins=options.bins,
            clusters_per_batch=options.clusters_per_batch,
        )
        self.remarks += filter(None, [left_out(self.data, prepared.rows), self._single(sampler)])
        return self.fitted(model, prepared.rows, self.loss(model), sampler=sampler)

    def pairs(self) -> MarginRows:
        """Each positive with each negative of its query, and what the teacher gives them."""
        count, stored = self.options.negatives.per_query, self.teacher.scores is not None
        pick = _spread if stored else _hardest
        return margin_rows(self.data, {q: pick(names, count) for q, names in self.negatives().items()}, self.scores())

    def loss(self, model: Any) -> Any:
        """Squared differences of margins."""
        options = self.options.loss
        if options.in_batch is None:
            return MarginMSELoss(model)
        teacher = _in_batch(self.family.load(options.in_batch, self.options.training), model)
        return DualMarginMSELoss(model, in_batch=teacher, in_batch_weight=options.in_batch_weight)

    def _single(self, sampler: TASBalanced) -> str | None:
        """How many queries no batch draws for want of a second pair, in words; None where each is drawn."""
        if not sampler.single:
            return None
        names, count = list(self.data.queries), len(sampler.pairs) + len(sampler.single)
        return (
            f"{len(sampler.single):,} of {count:,} queries were left out, since they have one pair and two are drawn "
            f"among ({query_list([names[query] for query in sampler.single])})"
        )

    def _teacher_scale(self, model: Any, prepared: MarginRows) -> float:
        scale = self.options.loss.teacher_scale
        limit = float(np.quantile(np.abs(prepared.margins), WITHIN))
        if scale is not None or limit <= 1 or not any(isinstance(part, Normalize) for part in model):
            return scale or 1.0
        self.remarks.append(f"the teacher's margins were divided by {limit:.3g}, to fit a model of unit vectors")
        return 1 / limit

    def _clusters(self) -> dict[str, int]:
        from sklearn.cluster import KMeans

        queries = list(self.data.qrels)
        count = self.options.sampler.clusters or max(10, len(queries) // PER_CLUSTER)
        vectors = self.model().encode_query([self.data.queries[query] for query in queries], show_progress_bar=False)
        labels = KMeans(min(count, len(queries)), random_state=self.options.seed, n_init=1).fit_predict(vectors)
        return dict(zip(queries, labels.tolist(), strict=True))


def _hardest(names: Sequence[str], count: int) -> Sequence[str]:
    """The hardest."""
    return names[:count]


def _spread(names: Sequence[str], count: int) -> Sequence[str]:
    """`count` at even steps through what a teacher ordered, for margins of all sizes, not the smallest alone."""
    return names if len(names) <= count else [names[place * len(names) // count] for place in range(count)]


def _in_batch(teacher: Any, student: Any) -> Any:
    """A teacher over the student's tokens: scores `[B, 2 B]` of all positives, then of all negatives."""
    if teacher.tokenizer.get_vocab() != student.tokenizer.get_vocab():
        raise ConfigError(
            "the in-batch teacher and the trained model have different tokenizers",
            where="loss.in_batch",
            expected="a model with the same tokenizer",
        )
    if prompts_of_sides(teacher) != prompts_of_sides(student):
        raise ConfigError(
            "the in-batch teacher and the trained model have different prompts",
            where="loss.in_batch",
            got=prompts_of_sides(teacher),
            expected=prompts_of_sides(student),
            do="give the model the teacher's prompts: prompts.query and prompts.document",
        )
    teacher.eval()

    def scores(columns: Sequence[Features]) -> torch.Tensor:
        queries, *documents = (teacher(dict(features))["sentence_embedding"] for features in columns)
        similarity: torch.Tensor = queries @ torch.cat(documents).T
        return similarity

    return scores
