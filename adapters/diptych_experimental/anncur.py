"""ANNCUR and ADACUR: search by a reranker's own scores, beyond the candidates of a first stage.

`AnchorScores` holds what a reranker scored every document for fixed queries, the anchors. `explore` reranks a query's
candidates in rounds; after each, the scores so far say which other documents the reranker would score highly.
docs/research/methods/anncur.md has papers and figures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diptych import Collection
from diptych.errors import SearchError
from diptych.protocols import Reranker
from diptych.search import Pipeline, score, score_pairs
from diptych.types import Document, Floats, Hit

LONGEST, WORDS = 1000, 16  # characters of an anchor that is chosen, and words of a document without a title


@dataclass(frozen=True, slots=True, eq=False)
class AnchorScores:
    """A reranker's scores of all documents for each anchor.

    Args:
        ids: of the documents.
        vectors: float32 `[n, anchors + 1]`: for each anchor the score less the document's mean over all anchors, and
            the mean as the last number. It is most of what scores have in common; a fit that had to explain it would
            explain little else.
    """

    ids: tuple[str, ...]
    vectors: Floats

    @classmethod
    def of(cls, reranker: Reranker, documents: Iterable[Document], anchors: Sequence[str]) -> AnchorScores:
        """Score the documents: a call of the reranker for each anchor and document.

        Raises:
            SearchError: fewer than two anchors, of which one alone has no deviation from its mean; a reranker whose
                scores depend on the other candidates.
            ContractError: it returns the wrong number of scores, NaN or infinity.
        """
        _require_independent(reranker)
        if len(anchors) < 2:
            raise SearchError("too few anchors", got=len(anchors), expected="2 or more")
        ids, rows = list[str](), list[Floats]()
        for document in documents:
            ids.append(document.id)
            rows += score_pairs(reranker, [[(anchor, document.text) for anchor in anchors]], where="anchors")
        scores = np.reshape(rows, (len(ids), len(anchors))).astype(np.float64)
        means = scores.mean(axis=1, keepdims=True)
        return cls(tuple(ids), np.hstack([scores - means, means]).astype(np.float32))

    def save(self, path: Path) -> None:
        """Write the scores to an .npz file."""
        np.savez_compressed(path, ids=np.array(self.ids), vectors=self.vectors)

    @classmethod
    def load(cls, path: Path) -> AnchorScores:
        """The scores that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            return cls(tuple(stored["ids"].tolist()), stored["vectors"])


@dataclass(frozen=True, slots=True)
class Explored:
    """The documents that a reranker scored for a query.

    Args:
        hits: best first, by the reranker's scores; `stages` has the `explored` round, that of the candidates being 0.
        rounds: how many documents each round scored.
        new: how many of them were no candidates.
    """

    hits: tuple[Hit, ...]
    rounds: tuple[int, ...]
    new: int


def explore(
    collection: Collection,
    query: str,
    reranker: Reranker,
    scores: AnchorScores,
    *,
    first: Pipeline | None = None,
    rounds: int = 4,
    budget: int = 100,
    ridge: float = 0.05,
) -> Explored:
    """Rerank a query's candidates, and the documents that their scores lead to.

    Each round scores an equal share of what is left of the budget; the first one reads candidates alone. Where fewer
    documents have anchor scores than a round may read, it reads further candidates.

    Args:
        reranker: the one that made `scores`.
        first: finds the candidates; the collection's own pipeline unless given.
        rounds, budget: how often, and how many documents in all the reranker scores.
        ridge: penalty of the fit, as a share of the mean squared anchor score.

    Raises:
        SearchError: a reranker whose scores depend on the other candidates; fewer than 2 rounds, or no document for
            each of them.
    """
    _require_independent(reranker)
    if not 2 <= rounds <= budget:
        got = f"{rounds} rounds, budget {budget}"
        raise SearchError("rounds and budget do not fit", got=got, expected="2 rounds or more, a document for each")
    options = {} if first is None else {"pipeline": first}
    candidates = [hit.id for hit in collection.search(query, limit=budget, **options)]  # type: ignore[arg-type]
    places = {name: place for place, name in enumerate(scores.ids)}
    known, found, sizes = dict[str, float](), dict[str, Hit](), list[int]()
    for number in range(rounds):
        share = math.ceil((budget - len(known)) / (rounds - number))
        pointed_to = _pointed_to(scores, places, known, ridge) if number else []
        wanted = [name for name in dict.fromkeys([*pointed_to[:share], *candidates]) if name not in known][:share]
        documents = collection.get(wanted)
        if not documents:  # of the first round, where the pipeline finds none
            continue
        for document, value in zip(documents, score(reranker, query, [one.text for one in documents]), strict=True):
            known[document.id] = float(value)
            found[document.id] = Hit(document, float(value), {"explored": float(number)})
        sizes.append(len(documents))
    hits = sorted(found.values(), key=lambda hit: -hit.score)
    return Explored(tuple(hits), tuple(sizes), len(known.keys() - {*candidates}))


def fitted(vectors: Floats, scores: Sequence[float], ridge: float) -> Floats:
    """The query vector whose dot product with a document's vector estimates the reranker's score.

    u = argmin |X u - (s - m)|^2 + a |u|^2, with X the centred anchor scores of the scored documents, m their means, and
    a = `ridge` times the mean squared length of the rows of X. The vector is u, then 1 for the mean.

    Args:
        vectors: of the scored documents, `[n, anchors + 1]`.
        scores: the reranker's.
        ridge: more than 0.
    """
    rows = np.asarray(vectors[:, :-1], np.float64)
    rest = np.asarray(scores, np.float64) - vectors[:, -1]
    gram = rows @ rows.T
    penalty = ridge * float(np.trace(gram)) / max(1, len(rows))
    if penalty <= 0:  # nothing scored, or all anchors alike
        return np.append(np.zeros(rows.shape[1]), 1.0).astype(np.float32)
    weights = rows.T @ np.linalg.solve(gram + penalty * np.eye(len(rows)), rest)
    return np.append(weights, 1.0).astype(np.float32)


def choose_anchors(documents: Iterable[Document], count: int, *, seed: int = 0) -> list[str]:
    """`count` anchors from the documents: titles, or the first words of documents that have none.

    The choice depends on texts and seed, not on the order.
    """
    anchors = {" ".join(one.title.split() or one.text.split()[:WORDS])[:LONGEST].strip() for one in documents} - {""}
    return sorted(sorted(anchors, key=lambda anchor: hashlib.blake2b(f"{seed} {anchor}".encode()).digest())[:count])


def _pointed_to(scores: AnchorScores, places: Mapping[str, int], known: Mapping[str, float], ridge: float) -> list[str]:
    """The documents that are not scored yet, those of the highest estimates first."""
    fit_on = [name for name in known if name in places]
    query = fitted(scores.vectors[[places[name] for name in fit_on]], [known[name] for name in fit_on], ridge)
    order = np.argsort(-(scores.vectors @ query), kind="stable")
    return [name for place in order if (name := scores.ids[place]) not in known]


def _require_independent(reranker: Reranker) -> None:
    if not reranker.independent:
        what = "a reranker that looks at all candidates cannot explore"
        raise SearchError(what, where=type(reranker).__name__, got="independent = False")
