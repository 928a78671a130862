"""How often judging until a comparison is settled gives the verdict of all judgements, and what it saves.

Rankings of examples/debian are made once, or read from a folder that `diptych evaluate --runs` wrote. In each draw a
scripted judge, who grades as the judgements of the set do, judges 50 of its 300 queries, drawn at random.

    python tests/benchmarks/compare_judging.py --draws 100
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diptych import Collection
from diptych.evaluate import Qrels, compare, evaluate, from_trec, read_beir
from diptych.populate import open_source
from diptych.search import Linear, Pipeline, Retrieve, Rrf
from diptych.types import Query, Run
from diptych_lab.judge import Judgements, Judging, Verdict

EXAMPLE = Path(__file__).parents[2] / "examples/debian"
PAIRS = (
    ("lexical", "rrf+late"),
    ("rrf", "rrf+late"),
    ("dense", "linear"),
    ("lexical", "rrf"),
    ("dense", "rrf"),
    ("lexical", "dense"),
)
DEPTH, METRIC = 10, "nDCG@10"


@dataclass(frozen=True)
class Draw:
    """One draw: the verdict of judging until settled, that of all judgements, and what each took."""

    verdict: Verdict
    whole: str
    pooled: int

    @property
    def same(self) -> bool:
        return self.verdict.differences[0].outcome == self.whole


def rankings(folder: Path | None) -> tuple[list[Query], Qrels, dict[str, Run]]:
    """The judged queries and the runs of five pipelines."""
    queries, qrels = read_beir(EXAMPLE)
    if folder is not None:
        return queries, qrels, {p.name.split(".")[0]: from_trec(p, name=p.name.split(".")[0]) for p in folder.iterdir()}
    from diptych.config import load_config

    with tempfile.TemporaryDirectory() as place:
        config = load_config(EXAMPLE / "diptych.yaml").model_copy(update={"store": f"edge:{place}"})
        with Collection.open(config) as collection:
            collection.populate(open_source(EXAMPLE / "corpus.jsonl.gz"))
            both = Pipeline((Retrieve("dense", 100), Retrieve("lexical", 100)))
            pipelines = {
                "dense": Pipeline((Retrieve("dense", 100),)),
                "lexical": Pipeline((Retrieve("lexical", 100),)),
                "rrf": both >> Rrf(),
                "linear": both >> Linear(),
                "rrf+late": None,
            }
            runs = {
                name: Run.from_hits(
                    name, queries, collection.search_batch(queries, pipeline=own, limit=DEPTH, with_payload=False)
                )
                for name, own in pipelines.items()
            }
    return queries, qrels, runs


def draw(pair: Sequence[Run], queries: Sequence[Query], qrels: Qrels, *, size: int, seed: int) -> Draw:
    """Judge `size` queries with the grades of the set, until settled, and compare with all of their judgements."""
    sample = random.Random(seed).sample(list(queries), size)
    judging = Judging(pair, sample, Judgements(None), judge="script", seed=seed)
    pooled = len(judging.pending)
    while judged := judging.next():
        judging.record(judged, qrels.judgements[judged.query.id].get(judged.document, 0))
    full = qrels.restricted(query.id for query in sample)
    means = [
        evaluate(Run(own.name, {query.id: own.rankings[query.id] for query in sample}), full, [METRIC]).means[METRIC]
        for own in pair
    ]
    gap = means[1] - means[0]
    return Draw(judging.verdict(), "equal" if abs(gap) < 1e-9 else "better" if gap > 0 else "worse", pooled)


def report(pair: Sequence[Run], queries: Sequence[Query], qrels: Qrels, args: argparse.Namespace) -> str:
    """A row of the table for one pair of pipelines."""
    draws = [draw(pair, queries, qrels, size=args.queries, seed=seed) for seed in range(args.draws)]
    evaluations = [evaluate(own, qrels, [METRIC]) for own in pair]
    truth = compare(evaluations, pair[0].name, METRIC).of(pair[1].name)
    judged = np.array([own.verdict.judgements for own in draws])
    share = judged.sum() / sum(own.pooled for own in draws)
    queries_read = np.median([own.verdict.judged for own in draws])
    taken = f"{np.median(judged):.0f} ({judged.min()} to {judged.max()})"
    return (
        f"| {pair[1].name} against {pair[0].name} | {truth.mean:+.3f} [{truth.low:+.3f}, {truth.high:+.3f}] "
        f"| {sum(own.same for own in draws)} of {len(draws)} | {taken} | {share:.0%} | {queries_read:.0f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--runs", type=Path, default=None)
    parser.add_argument("--pair", action="append", default=None, help="such as dense,rrf; all pairs unless given")
    args = parser.parse_args()
    queries, qrels, runs = rankings(args.runs)
    print(f"draws {args.draws}, queries {args.queries}, metric {METRIC}")
    print("| pair | difference over all 300 queries | same verdict | judgements | of the pool | queries |")
    print("|---|---|---|---|---|---|")
    for names in [tuple(pair.split(",")) for pair in args.pair or ()] or PAIRS:
        print(report([runs[name] for name in names], queries, qrels, args), flush=True)


if __name__ == "__main__":
    main()
