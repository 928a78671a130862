"""Learned fusion beside the tuner's linear ones: does a small model of scores and facts of the query pass the gate?

    python tests/benchmarks/compare_learned_fusion.py "$DIPTYCH_DATA" debian-mini cranfield --cache build/fusion

The model is a logistic regression over a query's candidates (softmax against the judged ones, ridge penalty, Newton's
method), drawn towards DBSF: it learns a correction of the sum of DBSF parts. It has a number for each slot's DBSF part,
min-max part, reciprocal rank and absence. *With facts* it has more, for each of the first two times each fact of the
query: its length in words, its highest IDF, and the agreement of the slots (documents among the first ten of both). The
strength of the penalty is chosen on the queries that fit the model.

Prints Markdown, one row for each set and variation; all values are held out (five folds). *Tuned* is what
`diptych tune search` searches by, starting from DBSF, as in compare_fusion.py; *tuned, learned too* has both models
among its candidates, as the least simple ones; *taken* is the share of folds in which the gate let one of them pass.
"""

from __future__ import annotations

import argparse
import math
import random
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compare_fusion import ROUNDS, interval, pairs
from diptych.config.stages import Dbsf, Linear
from diptych_lab.tune.trials import FOLDS, Doubles, Legs, Trial, Values, choose, trials
from fusion_sets import VARIATIONS, Judged, Vectors, load

RIDGES = (1.0, 0.1, 0.01)
TRIFLE, STEPS, NEAR = 1e-4, 15, 60
STAND_INS = tuple(
    Linear("zscore", {f"{n}": 1.0 for n in range(count)}) for count in (8, 14)
)  # more weights than others
COLUMNS = (
    "set",
    "queries",
    "DBSF",
    "tuned",
    "tuned, learned too",
    "learned",
    "learned, facts",
    "learned - DBSF",
    "learned, facts - DBSF",
    "tuned, learned too - tuned",
    "taken",
)
WORD = re.compile(r"\w+")


class Features(NamedTuple):
    """What a model sees of n queries: `[n, width, features]`, the first of them DBSF's score, and the candidates."""

    x: Doubles
    is_candidate: np.ndarray
    near: np.ndarray  # [n, NEAR], the candidates that DBSF puts first, by which models are fitted


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--dense", nargs="+", default=["minilm"])
    parser.add_argument("--sparse", nargs="+", default=["bm25"])
    parser.add_argument("--variations", nargs="+", default=list(VARIATIONS))
    asked = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |")
    print("|---" * len(COLUMNS) + "|")
    for name in asked.sets:
        judged = load(asked.root, name)
        for pair in pairs(judged, Vectors(asked.cache), asked.dense, asked.sparse):
            if pair.variation in asked.variations:
                print(row(f"{name}, {pair.variation}", pair.legs, facts(judged, pair.variation, pair.legs)), flush=True)


def row(name: str, legs: Legs, query_facts: Doubles) -> str:
    """One line of the table."""
    tried = trials(legs.slots)
    values, start = Values(legs), tried.index(Trial(legs.slots, Dbsf()))
    table = np.array([values.of(trial) for trial in tried])
    models = [features(legs, query_facts[:, :0]), features(legs, query_facts)]
    found = np.zeros((4, len(legs)))  # tuned, tuned with the models, each model
    taken, rng = 0, np.random.default_rng(0)
    for _ in range(ROUNDS):
        for part in np.array_split(rng.permutation(len(legs)), FOLDS):
            training = np.setdiff1d(np.arange(len(legs)), part)
            fitted = [learned(legs, seen, training, part) for seen in models]
            found[2:, part] += np.array([own for _, own in fitted]) / ROUNDS
            found[0, part] += table[choose(table[:, training], tried, start).index, part] / ROUNDS
            inner = np.vstack([table[:, training], *(own for own, _ in fitted)])
            choice = choose(inner, [*tried, *(Trial(legs.slots, model) for model in STAND_INS)], start).index
            found[1, part] += np.vstack([table[:, part], *(own for _, own in fitted)])[choice] / ROUNDS
            taken += choice >= len(tried)
    cells = [name, str(len(legs)), *(f"{own.mean():.3f}" for own in (table[start], *found))]
    cells += [interval(found[n] - table[start]) for n in (2, 3)]
    return f"| {' | '.join([*cells, interval(found[1] - found[0]), f'{taken / FOLDS / ROUNDS:.0%}'])} |"


def learned(legs: Legs, seen: Features, training: np.ndarray, part: np.ndarray) -> tuple[Doubles, Doubles]:
    """Values of the training queries, each by a model of the others, and of the other part by a model of them all."""
    parts = np.array_split(np.random.default_rng(1).permutation(training), FOLDS)
    held_out = {ridge: np.zeros(len(legs)) for ridge in RIDGES}
    for ridge, own in held_out.items():
        for left in parts:
            own[left] = _values(legs, seen, _fit(legs, seen, np.setdiff1d(training, left), ridge), left)
    best = max(RIDGES, key=lambda ridge: (held_out[ridge][training].mean(), ridge))
    return held_out[best][training], _values(legs, seen, _fit(legs, seen, training, best), part)


def features(legs: Legs, query_facts: Doubles) -> Features:
    """Parts of every slot after the sum of DBSF parts, each with a deviation of 1."""
    is_candidate = np.asarray((legs.ranks > 0).any(axis=1))
    dbsf, minmax = legs.parts("dbsf"), legs.parts("minmax")
    parts = [
        dbsf.sum(axis=1, keepdims=True),
        dbsf,
        minmax,
        legs.parts("rrf", k=5),
        (legs.ranks == 0).astype(np.float64),
    ]
    scaled = (query_facts - query_facts.mean(axis=0)) / np.maximum(query_facts.std(axis=0), 1e-9)
    parts += [own * scaled[:, n, None, None] for n in range(scaled.shape[1]) for own in (dbsf, minmax)]
    x = np.concatenate(parts, axis=1).transpose(0, 2, 1)
    inside = x[is_candidate]
    x = np.where(is_candidate[:, :, None], (x - inside.mean(axis=0)) / np.maximum(inside.std(axis=0), 1e-9), 0.0)
    near = np.argsort(np.where(is_candidate, -dbsf.sum(axis=1), np.inf), axis=1, kind="stable")[:, :NEAR]
    return Features(x, is_candidate, near)


def _fit(legs: Legs, seen: Features, chosen: np.ndarray, ridge: float, weights: Doubles | None = None) -> Doubles:
    """The weights of the features; those of a weaker penalty start from the ones given."""
    near, size = seen.near[chosen], seen.x.shape[2]
    inside = np.take_along_axis(seen.is_candidate[chosen], near, axis=1)
    wanted = np.where(inside, np.take_along_axis(legs.gains[chosen], near, axis=1), 0.0)
    useful = wanted.sum(axis=1) > 0
    x = np.take_along_axis(seen.x[chosen], near[:, :, None], axis=1)[useful]
    inside, wanted = inside[useful], wanted[useful] / wanted[useful].sum(axis=1, keepdims=True)
    penalty = np.array([TRIFLE, *[ridge] * (size - 1)])
    weights = np.array([1.0, *[0.0] * (size - 1)]) if weights is None else weights
    loss = _loss(x, inside, wanted, weights, penalty)
    for _ in range(STEPS):
        chance = _softmax(x @ weights, inside)
        slope = np.einsum("qwf,qw->f", x, chance - wanted) / len(x) + penalty * weights
        means = np.einsum("qwf,qw->qf", x, chance)
        curve = (np.einsum("qwf,qwg->fg", x * chance[:, :, None], x, optimize=True) - means.T @ means) / len(x)
        step, share = np.linalg.solve(curve + np.diag(penalty), slope), 1.0
        while share > TRIFLE and (new := _loss(x, inside, wanted, weights - share * step, penalty)) > loss:
            share /= 2
        if share <= TRIFLE or loss - new < 1e-6:
            break
        weights, loss = weights - share * step, new
    return weights


def _softmax(scores: Doubles, inside: np.ndarray) -> Doubles:
    powers = np.where(inside, np.exp(scores - np.where(inside, scores, -np.inf).max(axis=1, keepdims=True)), 0.0)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _loss(x: Doubles, inside: np.ndarray, wanted: Doubles, weights: Doubles, penalty: Doubles) -> float:
    chance = np.maximum(_softmax(x @ weights, inside), 1e-300)
    return float(-(wanted * np.log(chance)).sum() / len(x) + 0.5 * (penalty * weights**2).sum())


def _values(legs: Legs, seen: Features, weights: Doubles, chosen: np.ndarray) -> Doubles:
    part = replace(
        legs, scores=legs.scores[chosen], ranks=legs.ranks[chosen], gains=legs.gains[chosen], ideal=legs.ideal[chosen]
    )
    return part.values(np.where(seen.is_candidate[chosen], seen.x[chosen] @ weights, -np.inf))


def facts(judged: Judged, variation: str, legs: Legs) -> Doubles:
    """Length in words (logarithm), highest IDF of a word, and agreement of the slots' first ten, `[n, 3]`."""
    rng = random.Random(7)
    words = [WORD.findall(VARIATIONS[variation](text, rng).lower()) for text in judged.queries.values()]
    counts = Counter(word for text in judged.documents.values() for word in set(WORD.findall(text.lower())))
    size = len(judged.documents)
    idf = [
        max((math.log(1 + (size - counts[w] + 0.5) / (counts[w] + 0.5)) for w in own if w in counts), default=0.0)
        for own in words
    ]
    both = ((legs.ranks > 0) & (legs.ranks <= 10)).all(axis=1).sum(axis=1) / 10
    return np.column_stack([np.log1p([len(own) for own in words]), idf, both])


if __name__ == "__main__":
    main()
