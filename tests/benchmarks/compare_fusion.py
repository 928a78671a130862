"""Fusions of a dense and a lexical slot on judged collections: each slot, old and new default, tuned, and the oracle.

    python tests/benchmarks/compare_fusion.py "$DIPTYCH_DATA" debian-mini cranfield --cache build/fusion

Prints Markdown: one row for each set, variation of its queries (whole, their two longest words, a tenth of the letters
swapped) and pair of encoders, each figure with the paired 95% interval of its difference from DBSF's (`--base RRF`:
from RRF's; `--base best`: from the better slot's). *Weighed* gives the dense slot the weight that it has where its
model is unfit for the texts. *Tuned* is what `diptych tune search` would search by, measured on queries that did not
choose it: five folds, twice, each fold with a gate of its own. *Oracle* is the best fixed trial of all, chosen
afterwards. `--others` prints the means of all other candidates for a default. `--splits 200` prints instead what the
gated tuner does with 30 queries (two thirds of them where there are fewer than 45), drawn so often: in how many draws
it changes anything, in how many it is then worse on the rest of the queries, and its mean gain there. Vectors are made
once and kept in the cache; `--minutes` stops after the set during which they have passed, and the same command goes on.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from diptych.config.stages import Dbsf, Fusion, Linear, Rrf
from diptych.evaluate import bootstrap_means, percentile_interval
from diptych.slots.unread import UNREAD_WEIGHT
from diptych_lab.tune.search import DEPTHS
from diptych_lab.tune.trials import Doubles, Legs, Trial, Values, choose, trials
from fusion_sets import DENSE, SPARSE, VARIATIONS, Judged, Vectors, excerpts, load

DEPTH, FOLDS, ROUNDS = 100, 5, 2
EXCERPTS = "excerpts"
SPLIT_COLUMNS = ("set", "tuning / rest", "changed", "worse on the rest", "mean gain", "worst")
TUNING = 30
FUSIONS: Mapping[str, Fusion] = {"DBSF": Dbsf(), "RRF": Rrf(), "min-max": Linear()}
COMPARED = {"DBSF": ("RRF", "min-max"), "RRF": ("DBSF", "min-max"), "best": ("RRF", "DBSF")}  # by --base


class Pair(NamedTuple):
    """A dense and a lexical slot on one set: what they found for its queries, and for excerpts of its documents."""

    name: str
    variation: str
    dense: str
    lexical: str
    legs: Legs
    fit: Legs


def main() -> None:
    """Encode what is missing, then print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument(
        "--dense", nargs="+", default=list(DENSE), help="of fusion_sets.py, or a model's name or folder"
    )
    parser.add_argument("--sparse", nargs="+", default=list(SPARSE))
    parser.add_argument("--variations", nargs="+", default=list(VARIATIONS))
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--encode", action="store_true", help="only make the vectors")
    parser.add_argument("--others", action="store_true", help="also print the other candidates for a default")
    parser.add_argument("--splits", type=int, default=0, help="draws of few queries to tune by, instead of the table")
    parser.add_argument("--base", choices=list(COMPARED), default="DBSF", help="what the intervals compare with")
    asked = parser.parse_args()
    end, means = time.monotonic() + 60 * asked.minutes, defaultdict(list)
    if not asked.encode:
        base = "better slot" if asked.base == "best" else asked.base
        table = ("set", "queries", base, "dense", "lexical", *COMPARED[asked.base], "weighed", "tuned", "oracle")
        columns = SPLIT_COLUMNS if asked.splits else table
        print(f"| {' | '.join(columns)} |")
        print("|---" * len(columns) + "|")
    for name in asked.sets:
        if time.monotonic() > end:
            print("time is up before", name)
            break
        judged, vectors = load(asked.root, name), Vectors(asked.cache)
        for pair in pairs(judged, vectors, asked.dense, asked.sparse, encode=asked.encode):
            if pair.variation in asked.variations:
                print(splits(pair, asked.splits) if asked.splits else row(pair, asked.base), flush=True)
                for fusion, value in others(pair).items() if asked.others else ():
                    means[fusion].append(value)
    if asked.others:
        for fusion, values in sorted(means.items(), key=lambda item: -float(np.mean([v[0] for v in item[1]]))):
            gaps = [gap for _, gap in values]
            print(f"{fusion:22} mean {np.mean([v[0] for v in values]):.4f}, worst against DBSF {min(gaps):+.4f}")


def row(pair: Pair, base: str) -> str:
    """One line of the table; its intervals are of differences from `base`: DBSF, RRF or the better slot."""
    legs = pair.legs
    tried, values = trials(legs.slots, depths=DEPTHS), Values(legs)
    table = np.array([values.of(trial) for trial in tried])
    slots = [values.of(Trial((slot,))) for slot in legs.slots]
    fused = {name: values.of(Trial(legs.slots, fusion)) for name, fusion in FUSIONS.items()}
    fused["weighed"] = values.of(Trial(legs.slots, Linear("zscore", {pair.dense: UNREAD_WEIGHT}, missing=-2.5)))
    compared = fused[base] if base in fused else max(slots, key=np.mean)
    rows = [*slots, *(fused[name] for name in (*COMPARED[base], "weighed"))]
    rows += [tuned(table, tried, tried.index(Trial(legs.slots, Dbsf()))), table[table.mean(axis=1).argmax()]]
    name = f"{pair.name}, {pair.variation}, {Path(pair.dense).name} + {pair.lexical}"
    cells = [name, str(len(legs)), f"{compared.mean():.3f}", *(against(own, compared) for own in rows)]
    return f"| {' | '.join(cells)} |"


def against(values: Doubles, base: Doubles) -> str:
    """The mean, and the interval of the difference from another one; a star where it excludes 0."""
    return f"{values.mean():.3f} {interval(values - base).partition(' ')[2]}"


def splits(pair: Pair, draws: int) -> str:
    """One line of what the tuner does with few queries."""
    tried, count = trials(pair.legs.slots, depths=DEPTHS), len(pair.legs)
    values, start = Values(pair.legs), tried.index(Trial(pair.legs.slots, Dbsf()))
    table = np.array([values.of(trial) for trial in tried])
    few, rng, gains = min(TUNING, 2 * count // 3), np.random.default_rng(0), []
    for _ in range(draws):
        order = rng.permutation(count)
        choice = choose(table[:, order[:few]], tried, start).index
        gains.append(float((table[choice] - table[start])[order[few:]].mean()) if choice != start else 0.0)
    changed, worse = sum(gain != 0 for gain in gains), sum(gain < 0 for gain in gains)
    cells = [f"{pair.name}, {pair.variation}", f"{few} / {count - few}", str(changed), f"{worse} of {draws}"]
    return f"| {' | '.join([*cells, f'{np.mean(gains):+.4f}', f'{min(gains):+.3f}'])} |"


def interval(gaps: Doubles) -> str:
    """Mean and 95% interval; a star where the interval excludes 0."""
    low, high = percentile_interval(bootstrap_means(gaps, samples=5_000, seed=0), size=len(gaps), confidence=0.95)
    star = "" if low <= 0 <= high else " *"
    return f"{gaps.mean():+.3f} [{low:+.3f}, {high:+.3f}]{star}"


def tuned(table: Doubles, tried: list[Trial], start: int) -> Doubles:
    """For each query the value of what the gated tuner chooses on the other folds."""
    rng, count = np.random.default_rng(0), table.shape[1]
    found = np.zeros(count)
    for _ in range(ROUNDS):
        for part in np.array_split(rng.permutation(count), FOLDS):
            others = np.setdiff1d(np.arange(count), part)
            found[part] += table[choose(table[:, others], tried, start).index, part] / ROUNDS
    return found


def others(pair: Pair) -> dict[str, tuple[float, float]]:
    """The mean of every other candidate for a default, and that minus DBSF's."""
    legs, fit = pair.legs, pair.fit
    base = float(legs.values(legs.parts("dbsf").sum(axis=1)).mean())
    fused = {f"RRF k {k}": legs.parts("rrf", k=k) for k in (1, 5, 10, 20, 60)}
    fused |= {kind: legs.parts(kind) for kind in ("dbsf", "minmax", "zscore")}
    fused |= {f"z, missing {m:g}": legs.parts("zscore", missing=m) for m in (-0.5, -1.0, -1.5, -2.0, -2.5)}
    fused |= fitted(legs, fit)
    sums = {name: parts.sum(axis=1) for name, parts in fused.items()}
    sums |= {f"minmax, {depth} candidates": legs.cut(depth).parts("minmax").sum(axis=1) for depth in (20, 50)}
    own = np.array([max(1e-3, float(fit.alone(slot).mean())) for slot in fit.slots])
    sums["minmax, weighed by excerpts found"] = (own[None, :, None] * legs.parts("minmax")).sum(axis=1)
    means = {name: float(legs.values(own).mean()) for name, own in sums.items()}
    return {name: (mean, mean - base) for name, mean in means.items()}


def fitted(legs: Legs, fit: Legs) -> dict[str, Doubles]:
    """Parts with two constants a slot from the excerpts: what a formula could compute in one request."""
    without = np.where(fit.gains[:, None, :] > 0, np.nan, fit.scores)  # the document that was cut up
    with np.errstate(all="ignore"):
        spread = np.nanstd(without, axis=(0, 2), keepdims=True)
        low = np.nanmean(np.nanmin(without, axis=2, keepdims=True), axis=0, keepdims=True)
        high = np.nanmean(np.nanmax(without, axis=2, keepdims=True), axis=0, keepdims=True)
    found: dict[str, Doubles] = {}
    for name, scale in (("fitted deviations", spread), ("fitted lowest and highest", high - low)):
        parts = np.where(legs.ranks > 0, (legs.scores - low) / scale, 0.0)
        found |= {name: parts, f"{name}, not below 0": np.maximum(parts, 0.0)}
    return found


def pairs(
    judged: Judged, vectors: Vectors, dense: list[str], lexical: list[str], *, encode: bool = False
) -> Iterator[Pair]:
    """Every pair of encoders with every variation of the queries; none where only vectors are to be made."""
    texts = {label: _varied(judged, label) for label in VARIATIONS} | {EXCERPTS: list(excerpts(judged).values())}
    ids = list(judged.documents)
    found: dict[str, dict[str, list[list[tuple[str, float]]]]] = {}
    for encoder in lexical:
        rows = vectors.sparse(encoder, judged, texts)
        found[encoder] = {
            label: [_best_sparse(own, n, ids) for n in range(own.shape[0])] for label, own in rows.items()
        }
    for encoder in dense:
        documents = vectors.dense(encoder, judged, "document", list(judged.documents.values()), "all")
        queries = {label: vectors.dense(encoder, judged, "query", own, label) for label, own in texts.items()}
        found[encoder] = {label: _best_dense(own @ documents.T, ids) for label, own in queries.items()}
    if encode:
        return
    grades, fit = list(judged.grades.values()), [{name: 1} for name in excerpts(judged)]
    for one, other, label in itertools.product(dense, lexical, VARIATIONS):
        legs = Legs.of({one: found[one][label], other: found[other][label]}, grades)
        excerpted = Legs.of({one: found[one][EXCERPTS], other: found[other][EXCERPTS]}, fit)
        yield Pair(judged.name, label, one, other, legs, excerpted)


def _varied(judged: Judged, label: str) -> list[str]:
    rng = random.Random(7)
    return [VARIATIONS[label](text, rng) for text in judged.queries.values()]


def _best_dense(scores: np.ndarray, ids: list[str]) -> list[list[tuple[str, float]]]:
    count = min(DEPTH, scores.shape[1])
    best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
    return [[(ids[d], float(scores[n, d])) for d in own] for n, own in enumerate(best)]


def _best_sparse(scores: Any, row: int, ids: list[str]) -> list[tuple[str, float]]:
    start, stop = scores.indptr[row], scores.indptr[row + 1]
    documents, values = scores.indices[start:stop], scores.data[start:stop]
    documents, values = documents[values > 0], values[values > 0]
    order = np.lexsort((documents, -values))[:DEPTH]
    return [(ids[documents[n]], float(values[n])) for n in order]


if __name__ == "__main__":
    main()
