"""`cross_encoder` and `uni_encoder`: rerankers, trained on relevant and irrelevant documents of the first stage.

A cross-encoder reads pair by pair; a Uni-Encoder reads a query once, with all its candidates in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.losses import ListNetLoss

from diptych.errors import ConfigError
from diptych.protocols import Kind, Pair
from diptych.training import Registration, TrainReport
from diptych.types import Floats
from diptych_adapters.models import check_safe, resolve
from diptych_adapters.pipelines.library import load_transformer
from diptych_adapters.uni_encoder import SHORTEST, Attention, Settings, UniEncoder
from diptych_training.options import (
    BatchSize,
    Beside,
    Epochs,
    LastRank,
    MaxLength,
    NegativesOptions,
    Positive,
    RetrievalOptions,
    TrainingOptions,
)
from diptych_training.recipes.base import RetrievalTraining
from diptych_training.recipes.negatives import Reranking, first_stage, list_rows
from diptych_training.rows import Lists, left_out, pairs
from diptych_training.running import Fitted, family
from diptych_training.running.families import device, dropout
from diptych_training.running.run import HeldOutEvaluator, by_metric
from diptych_training.trained_module import TrainedModule

CANDIDATES, FIRST_STAGE = "candidates", "first stage"
WHOLE = -1  # of the library: all pairs of a batch are read at a time


class Negatives(NegativesOptions):
    """Negatives among the first stage's best."""

    per_query: Beside = 7
    last_rank: LastRank = 50


class RerankerTraining(TrainingOptions):
    """How it is trained; a row is many pairs."""

    epochs: Epochs = 1.0
    batch_size: BatchSize = 8
    max_length: MaxLength = 256


class Options(RetrievalOptions):
    """Options of `cross_encoder`."""

    retriever: str = Field(
        "all-MiniLM-L6-v2", description="Dense model that finds candidates if no collection is given."
    )
    negatives: Negatives = Field(default_factory=Negatives)
    draws: Positive = Field(1, description="Rows per judged pair, each with different negatives from its candidates.")
    candidates: Positive = Field(20, description="First-stage candidates to rerank per held-out query.")
    training: RerankerTraining = Field(default_factory=RerankerTraining)

    unprompted: ClassVar[str] = "are not for cross_encoder, which reads pairs"
    refused: ClassVar[tuple[str, ...]] = ("negatives.relative",)

    @model_validator(mode="after")
    def _ranks_alone(self) -> Self:
        if "relative" in self.negatives.model_fields_set and self.negatives.relative is not None:
            raise ValueError(
                "negatives.relative is not for rerankers, which draw negatives from a window of ranks: leave it out, "
                "and skip the best ranks by negatives.first_rank"
            )
        return self


class CrossEncoding(RetrievalTraining[Options]):
    """Trains a cross-encoder with one label; its scores are plain numbers, no probabilities."""

    name: ClassVar[str] = "cross_encoder"
    kind: ClassVar[Kind] = "reranker"

    def model(self) -> Any:
        """The transformer with a new head of one label, or a cross-encoder that has one."""
        return self.family.load(
            self.options.model, self.options.training, num_labels=1, activation_fn=torch.nn.Identity()
        )

    def data_steps(self) -> list[str]:
        """Retrieve candidates with the first stage."""
        if self.folder.stored(CANDIDATES) is not None:
            return []
        queries = [*self.data.qrels, *self.held.qrels]
        depth = max(self.options.negatives.last_rank, self.options.candidates)
        self.watcher.begin("finding candidates", None)
        candidates = first_stage(self.options, self.data, queries, depth, self.searcher)
        self.store_lists(CANDIDATES, candidates)
        return [f"the first stage found candidates of {len(candidates):,} queries"]

    def rows(self) -> Any:
        """The data set: for each judged pair and draw a query with a list of documents, the relevant one first.

        Raises:
            ConfigError: no pair has a row.
        """
        import datasets

        options, data = self.options, self.data
        per_query = options.negatives.per_query
        rows = list(list_rows(data, self.negatives(), per_query=per_query, draws=options.draws, seed=options.seed))
        why = "their query has fewer unjudged candidates than negatives.per_query"
        remark = left_out(data, ((row["query"], row["documents"][0]) for row in rows), why)
        if not rows:
            raise ConfigError(
                "no training rows could be made",
                where="negatives",
                got=f"{sum(1 for _ in pairs(data)):,} judged pairs, fewer unjudged candidates than per_query",
                do="make negatives.per_query smaller or negatives.last_rank larger",
            )
        self.remarks += filter(None, [remark])
        return datasets.Dataset.from_list(rows)

    def loss(self, model: Any) -> Any:
        """Softmax cross-entropy over each row's documents: `-log softmax(f)` of the relevant one."""
        return ListNetLoss(model, mini_batch_size=self.options.training.mini_batch_size or WHOLE)

    def searcher(self) -> Any:
        """The first stage if no collection is configured."""
        return family("dense").load(self.options.retriever, TrainingOptions(device=self.options.training.device))

    def negatives(self) -> Lists:
        """The candidates of each query within the window of ranks."""
        first, last = self.options.negatives.first_rank - 1, self.options.negatives.last_rank
        return {query: documents[first:last] for query, documents in self.lists(CANDIDATES).items()}

    def evaluator(self) -> HeldOutEvaluator | None:
        """Reranks the first stage's candidates of the held-out queries."""
        return HeldOutEvaluator(self._reranking) if self.held.qrels else None

    def _report(self, fitted: Fitted, models: list[Registration]) -> TrainReport:
        """The model's values beside those of the candidates' original order, which it should improve."""
        report = super()._report(fitted, models)
        if not report.measured:
            return report
        return replace(report, measured={FIRST_STAGE: by_metric(self._reranking.first()), **report.measured})

    @cached_property
    def _reranking(self) -> Reranking:
        best = self.options.candidates
        return Reranking(self.held, {query: names[:best] for query, names in self.lists(CANDIDATES).items()})


class UniEncodingOptions(Options):
    """Options of `uni_encoder`."""

    attention: Attention = Field(
        "isolated",
        description="isolated: scores do not depend on other candidates, so a query is read once. arrow: the query "
        "sees its candidates. square: every token sees every other.",
    )
    query_length: Positive | None = Field(
        None, description="Maximum tokens of a query; null is half of training.max_length."
    )

    unprompted: ClassVar[str] = "are not for uni_encoder, which reads pairs"

    whole: ClassVar[str] = (
        "is not for uni_encoder, which reads the candidates of a query together: leave it out, and make "
        "training.batch_size smaller"
    )

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        self.settings()
        return self

    def settings(self) -> Settings:
        """How the model reads."""
        length = self.training.max_length
        if length is None or length < 2 * SHORTEST:
            raise ValueError(f"training.max_length is at least {2 * SHORTEST} for uni_encoder: a query and a document")
        query_length = self.query_length or length // 2
        if query_length > length - SHORTEST:
            raise ValueError(f"query_length is at most training.max_length - {SHORTEST}, {length - SHORTEST} here")
        return Settings(attention=self.attention, max_length=length, query_length=query_length)


class UniEncoding(CrossEncoding):
    """Trains a Uni-Encoder as `cross_encoder` trains a cross-encoder."""

    name: ClassVar[str] = "uni_encoder"
    options: UniEncodingOptions

    def model(self) -> Any:
        """The transformer with a new head, or a Uni-Encoder that has one."""
        folder = resolve(self.options.model)
        check_safe(folder, trust_remote_code=False, allow_pickle_weights=False)
        transformer, tokenizer = load_transformer(
            "AutoModelForTokenClassification",
            folder,
            dtype="float32",  # autocast needs full-precision weights
            fresh_head=True,
            num_labels=1,
            **dropout(folder, self.options.training),
        )
        module = PairModule(UniEncoder(transformer, tokenizer, self.options.settings()))
        return Trainee(modules=[module], device=device(self.options.training.device), activation_fn=torch.nn.Identity())

    def export(self, model: Any) -> list[Registration]:
        """Save what the adapter `uni-encoder` serves."""
        model[0].encoder.save(self.folder.path)
        return [Registration("uni-encoder", {"model": str(self.folder.path)})]


class PairModule(TrainedModule):
    """A Uni-Encoder as the only module of a cross-encoder: pairs in, `scores` out."""

    def __init__(self, encoder: UniEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def preprocess(self, inputs: Sequence[Pair], **_: Any) -> dict[str, Any]:
        """The pairs as they are: which are one query's candidates decides how they are cut and read."""
        return {"pairs": inputs}

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The features with `scores`, `[n]`."""
        return {**features, "scores": self.encoder(features["pairs"])}


class Trainee(CrossEncoder):
    """A cross-encoder that scores all pairs of a query together when it is evaluated."""

    def predict(self, inputs: Sequence[Pair], **_: Any) -> Floats:  # type: ignore[override]  # of the library's ways one
        """Scores float32 `[n]` in the order of the pairs."""
        self.eval()
        with torch.inference_mode():
            return np.asarray(self(self.preprocess(list(inputs)))["scores"].float().cpu().numpy(), np.float32)
