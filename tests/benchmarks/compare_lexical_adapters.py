"""Quality, size and speed of the lexical adapters on Qdrant Edge, in one run.

    python tests/benchmarks/compare_lexical_adapters.py "$DIPTYCH_DATA" debian-mini scifact cranfield

The sets are BEIR folders. "typos" is nDCG@10 of the same queries after a tenth of their neighbouring letters were
swapped. Size is what the lexical part adds on disk, in blocks, to the same collection without it.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from qdrant_client import models

from diptych.evaluate import evaluate, read_beir
from diptych.types import Run
from diptych_adapters.lexical import Bm25, NGrams, QdrantTextIndex
from diptych_edge import EdgeClient

Ask: TypeAlias = Callable[[str], "tuple[models.SparseVector | models.TextQuery, str]"]
LUCENE = sorted(Bm25().lexicon.analyzer.stopwords)
MAX_QUERIES = 500
SWAPPED = 0.1


def main(root: Path, names: Sequence[str]) -> None:
    """Print one line per set and adapter."""
    print(f"{'set':16}{'adapter':34}{'nDCG@10':>9}{'R@100':>8}{'typos':>8}{'index s':>9}{'MB':>7}{'ms/query':>10}")
    same = QdrantTextIndex(stopwords=LUCENE, min_token_length=2)
    for name in names:
        measure(root / name, "nothing", fill_nothing)
        measure(root / name, "bm25", partial(fill_bm25, Bm25()))
        measure(root / name, "bm25, stopwords: nltk", partial(fill_bm25, Bm25(stopwords="nltk")))
        for lengths in ((4, 4), (3, 4)):
            encoder = NGrams(minimum=lengths[0], maximum=lengths[1])
            measure(root / name, f"ngrams, {lengths[0]} to {lengths[1]}", partial(fill_bm25, encoder))
        measure(root / name, "qdrant-text-index", partial(fill_text_index, QdrantTextIndex()))
        measure(root / name, "qdrant-text-index, bm25's words", partial(fill_text_index, same))


def measure(folder: Path, adapter: str, fill: Callable[[EdgeClient, list[str]], Ask | None]) -> None:
    """Fill a collection in a new folder, ask it all queries, print what came out."""
    ids, texts = corpus(folder)
    queries, qrels = read_beir(folder)
    queries = queries[:MAX_QUERIES]
    judged = qrels.restricted(query.id for query in queries)
    with tempfile.TemporaryDirectory() as path:
        client = EdgeClient(path)
        start = time.perf_counter()
        ask = fill(client, texts)
        seconds = time.perf_counter() - start
        rankings, times = answers(client, ask, ids, [(query.id, query.text) for query in queries])
        chance = random.Random(0)
        typos, _ = answers(client, ask, ids, [(query.id, misspelt(query.text, chance)) for query in queries])
        client.close()
        size = sum(file.stat().st_blocks for file in Path(path).rglob("*")) * 512 / 1e6
    shown = [""] * 3
    if ask:
        means, of_typos = (evaluate(Run(adapter, run), judged, ["nDCG@10", "R@100"]).means for run in (rankings, typos))
        shown = [f"{value:.3f}" for value in (means["nDCG@10"], means["R@100"], of_typos["nDCG@10"])]
    latency = f"{statistics.median(times) * 1000:.2f}" if times else "-"
    print(
        f"{folder.name:16}{adapter:34}{shown[0]:>9}{shown[1]:>8}{shown[2]:>8}{seconds:>8.2f}{size:>7.1f}{latency:>10}",
        flush=True,
    )


def answers(
    client: EdgeClient, ask: Ask | None, ids: Sequence[str], queries: Sequence[tuple[str, str]]
) -> tuple[dict[str, list[tuple[str, float]]], list[float]]:
    """The ranking of each query, and the seconds that each took; nothing without a way to ask."""
    rankings, times = {}, []
    for query_id, text in queries if ask else ():
        start = time.perf_counter()
        query, using = ask(text)  # type: ignore[misc]
        points = client.query_points("texts", query=query, using=using, limit=100, with_payload=False).points
        times.append(time.perf_counter() - start)
        rankings[query_id] = [(ids[int(point.id)], point.score) for point in points]
    return rankings, times


def misspelt(text: str, chance: random.Random) -> str:
    """The text after a tenth of its neighbouring letters within words were swapped."""
    letters = list(text)
    place = 0
    while place < len(letters) - 1:
        if letters[place].isalpha() and letters[place + 1].isalpha() and chance.random() < SWAPPED:
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
            place += 1
        place += 1
    return "".join(letters)


def fill_nothing(client: EdgeClient, texts: list[str]) -> None:
    """The payload alone: what the others' sizes are compared with."""
    _create(client)
    _upsert(client, [models.PointStruct(id=n, vector={}, payload={"_lex": text}) for n, text in enumerate(texts)])


def fill_bm25(encoder: Bm25 | NGrams, client: EdgeClient, texts: list[str]) -> Ask:
    """Vectors of our own."""
    encoder.calibrate(encoder.measure(texts))
    _create(client)
    vectors = [
        models.SparseVector(indices=v.indices.tolist(), values=v.values.tolist())
        for v in encoder.encode_document(texts)
    ]
    pairs = enumerate(zip(texts, vectors, strict=True))
    _upsert(
        client,
        [models.PointStruct(id=n, vector={"lex": vector}, payload={"_lex": text}) for n, (text, vector) in pairs],
    )

    def ask(text: str) -> tuple[models.SparseVector, str]:
        (vector,) = encoder.encode_query([text])
        return models.SparseVector(indices=vector.indices.tolist(), values=vector.values.tolist()), "lex"

    return ask


def fill_text_index(index: QdrantTextIndex, client: EdgeClient, texts: list[str]) -> Ask:
    """Qdrant's own index."""
    _create(client)
    client.create_payload_index("texts", "_lex", field_schema=index.index_params())
    _upsert(client, [models.PointStruct(id=n, vector={}, payload={"_lex": text}) for n, text in enumerate(texts)])
    return lambda text: (index.query(text), "_lex")


def corpus(folder: Path) -> tuple[list[str], list[str]]:
    """Ids and texts, title first."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row["_id"] for row in rows], [f"{row.get('title', '')} {row['text']}".strip() for row in rows]


def _create(client: EdgeClient) -> None:
    sparse = {"lex": models.SparseVectorParams(modifier=models.Modifier.IDF)}
    client.create_collection("texts", vectors_config={}, sparse_vectors_config=sparse)


def _upsert(client: EdgeClient, points: list[models.PointStruct]) -> None:
    for start in range(0, len(points), 1000):
        client.upsert("texts", points[start : start + 1000])


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main(Path(sys.argv[1]), sys.argv[2:])
