"""The stages after retrieval as values: they validate themselves, compare, and print as they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from diptych.config.section import (
    MOST_CANDIDATES,
    is_factor,
    is_number,
    require_count,
    require_duration,
    require_share,
    require_weights,
)
from diptych.errors import SearchError, brief
from diptych.protocols import Reranker


@dataclass(frozen=True, slots=True, repr=False)
class Rrf:
    """Reciprocal rank fusion: the sum over slots of weight / (k + rank), ranks from 1.

    Cormack, Clarke, Buettcher: "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods",
    SIGIR 2009. This is the paper's k; Qdrant counts ranks from 0, so its own k is one larger.
    """

    k: int = 60
    weights: Mapping[str, float] = field(default_factory=dict)

    label = "rrf"

    def __post_init__(self) -> None:
        require_count("k", self.k, type(self).__name__)
        require_weights(self.weights, type(self).__name__)

    def __repr__(self) -> str:
        return f"Rrf(k={self.k!r}{_weights_text(self.weights)})"


@dataclass(frozen=True, slots=True, repr=False)
class Dbsf:
    """Distribution-based score fusion: each slot's scores mapped by mean -+ 3 deviations to 0..1, then added."""

    label = "dbsf"

    def __repr__(self) -> str:
        return "Dbsf()"


@dataclass(frozen=True, slots=True, repr=False)
class Linear:
    """The sum over slots of weight times normalised score.

    `minmax` maps a slot's candidates to 0..1, `zscore` to mean 0 and deviation 1. A document that is not among them
    counts as their lowest, and diptych computes the sum. If all scores are equal, found documents count 1, others 0.

    With `missing`, a document that is not among a slot's candidates counts that many deviations from their mean. Then
    no slot's lowest score has to be known, and Qdrant computes the sum in the request that retrieves the candidates.
    If all scores are equal, found documents count 0.

    Args:
        normalize: how a slot's scores are made comparable.
        weights: of slots; 1 unless given.
        missing: of `zscore`, in deviations, such as -1; None is the lowest candidate's score.
    """

    normalize: Literal["minmax", "zscore"] = "minmax"
    weights: Mapping[str, float] = field(default_factory=dict)
    missing: float | None = field(default=None, kw_only=True)

    label = "linear"

    def __post_init__(self) -> None:
        if self.normalize not in ("minmax", "zscore"):
            raise SearchError("unknown normalisation", where="Linear", got=self.normalize, expected="minmax, zscore")
        if self.missing is not None and not (self.normalize == "zscore" and is_factor(self.missing)):
            got, expected = f"{self.normalize!r}, missing={brief(self.missing)}", "zscore, and a number below a million"
            raise SearchError("missing is not usable", where="Linear", got=got, expected=expected)
        require_weights(self.weights, type(self).__name__)

    def __repr__(self) -> str:
        missing = "" if self.missing is None else f", missing={self.missing!r}"
        return f"Linear({self.normalize!r}{_weights_text(self.weights)}{missing})"


Fusion: TypeAlias = Rrf | Dbsf | Linear


@dataclass(frozen=True, slots=True, repr=False)
class Rescore:
    """Rescores the best `candidates` with the vectors of another slot, inside Qdrant.

    Args:
        slot: whose vectors give the new scores.
        candidates: number of hits of the previous stage that it reads.
        weight: weight of the new score beside the previous stage's, each scaled from 0 to 1 over a query's candidates.
            diptych combines them between two requests. 1 uses the new scores unchanged.
    """

    slot: str
    candidates: int = 50
    weight: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        require_count("candidates", self.candidates, type(self).__name__, MOST_CANDIDATES)
        require_share("weight", self.weight, type(self).__name__)

    def __repr__(self) -> str:
        weighed = f", weight={self.weight!r}" if self.weight < 1 else ""
        return f"Rescore({self.slot!r}, {self.candidates!r}{weighed})"


MOST_DIVERSIFIED = 16_384  # candidates that Qdrant diversifies


@dataclass(frozen=True, slots=True, repr=False)
class Diversify:
    """Maximal marginal relevance over the best `candidates`, inside Qdrant, with the vectors of a dense slot.

    Each choice maximises relevance * sim(query, d) - (1 - relevance) * max sim(d, chosen): `relevance` is the lambda of
    Carbonell and Goldstein, SIGIR 1998. Qdrant's own `diversity` is 1 - relevance. Hits come in the order of choice;
    their score is sim(query, d).
    """

    slot: str
    relevance: float = 0.5
    candidates: int = 100

    def __post_init__(self) -> None:
        require_count("candidates", self.candidates, type(self).__name__, MOST_DIVERSIFIED)
        require_share("relevance", self.relevance, type(self).__name__)

    def __repr__(self) -> str:
        return f"Diversify({self.slot!r}, relevance={self.relevance!r}, candidates={self.candidates!r})"


@dataclass(frozen=True, slots=True)
class EarlyExit:
    """The rule for stopping a reranker: the last `patience` blocks added nothing to the best hits.

    Candidates are scored in their order, `block` at a time. Let n be the number of hits wanted from the stage: offset +
    limit of the search, or the candidates of the next reranker. A block is *quiet* if n were scored before it and none
    of its candidates scores higher than the n-th best of them. After `patience` quiet blocks in a row the rest is not
    scored, and left out: it has no score of this stage.

    Patience as in Busolin et al.: "Early Exit Strategies for Approximate k-NN Search in Dense Retrieval", CIKM 2024,
    with blocks of candidates in place of clusters of an index.
    """

    block: int = 10
    patience: int = 2

    def __post_init__(self) -> None:
        require_count("block", self.block, type(self).__name__)
        require_count("patience", self.patience, type(self).__name__)


@dataclass(frozen=True, slots=True)
class Explore:
    """How a reranker finds documents beyond its candidates; see `diptych.search.rerank_explore`.

    Args:
        anchors: the slot with the same reranker's scores of its anchors.
        rounds: how often documents are scored, the candidates included.
        budget: documents that are scored for a query, in all rounds together.
        ridge: of the fit to the scores so far, as a share of the documents' mean squared anchor scores.
    """

    anchors: str
    rounds: int = 4
    budget: int = 100
    ridge: float = 0.05

    def __post_init__(self) -> None:
        for name in ("rounds", "budget"):
            require_count(name, getattr(self, name), type(self).__name__)
        if not 2 <= self.rounds <= self.budget:
            got, expected = f"{self.rounds} rounds, budget {self.budget}", "2 rounds or more, and a document for each"
            what, do = "rounds and budget do not fit", "raise the budget, or change the rounds"
            raise SearchError(what, where="Explore", got=got, expected=expected, do=do)
        if not is_number(self.ridge) or self.ridge <= 0:
            raise SearchError("ridge is not usable", where="Explore", got=brief(self.ridge), expected="more than 0")


@dataclass(frozen=True, slots=True, repr=False)
class Rerank:
    """A reranker over the best `candidates`, which it passes on in its own order; several form a cascade.

    Args:
        adapter: a reranker's name, or an object that satisfies `Reranker`.
        candidates: number of hits of the previous stage that it reads.
        options: the adapter's options.
        early_exit: rule for stopping before all are scored; None scores all. Only for `independent` rerankers.
        weight: weight of the reranker's score beside the previous stage's, each scaled from 0 to 1 over a query's
            candidates; 1 uses the reranker's scores unchanged.
        deadline: seconds, or text such as `300ms`, after which no further batch is scored. Candidates that were not
            scored follow in their previous order, with the lowest score so far. Only for `independent` rerankers.
        read: `passages` reads the best passages of a document, where a slot of the pipeline has some; `document` reads
            from its beginning.
        explore: lets it find documents that were not candidates; None reads the candidates alone. Documents are read
            from their beginning, as for the anchors. Only for `independent` rerankers.
    """

    adapter: str | Reranker
    candidates: int = 50
    options: Mapping[str, Any] = field(default_factory=dict)
    early_exit: EarlyExit | None = field(default=None, kw_only=True)
    weight: float = field(default=1.0, kw_only=True)
    deadline: float | str | None = field(default=None, kw_only=True)
    read: Literal["passages", "document"] = field(default="passages", kw_only=True)
    explore: Explore | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        require_count("candidates", self.candidates, type(self).__name__, MOST_CANDIDATES)
        if self.read not in ("passages", "document"):
            raise SearchError("read is not usable", where="Rerank", got=brief(self.read), expected="passages, document")
        require_share("weight", self.weight, type(self).__name__)
        if self.deadline is not None:
            object.__setattr__(self, "deadline", require_duration("deadline", self.deadline, "Rerank"))
        if self.deadline is not None and self.early_exit is not None:
            raise SearchError(
                "a deadline and early_exit cannot be combined: one keeps unscored candidates, the other drops them",
                where="Rerank",
                got=f"deadline={self.deadline!r} and {self.early_exit!r}",
                do="leave one of them out",
            )
        if self.weight < 1 and self.early_exit is not None:
            raise SearchError(
                "early_exit cannot be combined with a weight: it looks at the reranker's scores alone",
                where="Rerank",
                got=f"weight={self.weight!r} and {self.early_exit!r}",
                do="leave one of them out",
            )
        if self.explore is not None and (self.weight < 1 or self.early_exit is not None):
            raise SearchError(
                "explore cannot be combined with weight or early_exit: it ranks by the reranker's scores alone",
                where="Rerank",
                got=f"weight={self.weight!r}, early_exit={self.early_exit!r} and {self.explore!r}",
                do="leave weight and early_exit out",
            )
        if not isinstance(self.adapter, str | Reranker):
            raise SearchError(
                "this is not a reranker",
                where="Rerank",
                got=type(self.adapter).__name__,
                expected="an adapter's name, or an object with predict, max_length and independent",
            )

    @property
    def seconds(self) -> float | None:
        """The deadline in seconds; None if there is none."""
        return None if self.deadline is None else float(self.deadline)

    @property
    def passes_on(self) -> int:
        """The most documents that the stage passes on."""
        return self.explore.budget if self.explore else self.candidates

    @property
    def label(self) -> str:
        """The key of this stage's scores in `Hit.stages`."""
        return self.adapter if isinstance(self.adapter, str) else type(self.adapter).__name__

    def __repr__(self) -> str:
        options = f", options={dict(self.options)!r}" if self.options else ""
        adapter = repr(self.adapter) if isinstance(self.adapter, str) else f"{self.label}()"
        stops = f", early_exit={self.early_exit!r}" if self.early_exit else ""
        weighed = f", weight={self.weight!r}" if self.weight < 1 else ""
        timed = f", deadline={self.deadline!r}" if self.deadline else ""
        read = "" if self.read == "passages" else f", read={self.read!r}"
        explores = f", explore={self.explore!r}" if self.explore else ""
        return f"Rerank({adapter}, {self.candidates!r}{options}{stops}{weighed}{timed}{read}{explores})"


def _weights_text(weights: Mapping[str, float]) -> str:
    return f", weights={dict(weights)!r}" if weights else ""
