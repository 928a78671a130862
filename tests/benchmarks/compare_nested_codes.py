"""Codes of 8, 4 and 2 bits out of one stored copy (Double Rounding) beside Qdrant's quantized copies of one width each.

    DIPTYCH_DATA=... python tests/benchmarks/compare_nested_codes.py scifact cranfield

Vectors of all-MiniLM-L6-v2, of length 1. Double Rounding: one scale a dimension, the 99.9th percentile of its sizes
over 127; 8-bit codes are rounded once more to each lower width, and the scales go into the query, so that one integer
product serves all widths. Beside it stand codes that are rounded directly to the width, and codes whose low bits are
cut off. Qdrant's copies are searched by the embedded engine without a graph, so that codes alone decide. What is asked
is how many of the ten nearest by the whole vectors are among the ten best by code, and among the 40 best, which is what
rescoring can mend; nDCG@10 is that of the 40 rescored by the whole vectors and of the codes alone. Shares have their
difference from Double Rounding at the same width, nDCG@10 that from the whole vectors, each with the 95 % paired
bootstrap interval over the queries.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from arms import cell
from corpora import folder_of, read_documents
from diptych import Run
from diptych.encoders import Encoders
from diptych.evaluate import Qrels, evaluate, read_beir
from diptych.types import Floats
from diptych_edge import EdgeClient

MODEL, METRIC, WHOLE = "all-MiniLM-L6-v2", "nDCG@10", "float32"
WIDTHS, CLIP, K = (8, 6, 4, 2), 99.9, 10
DEPTHS = (K, 4 * K)
TURBO, BINARY = models.TurboQuantBitSize, models.BinaryQuantizationEncoding
ENGINE: Mapping[str, Any] = {
    "Qdrant scalar, 8 bits": models.ScalarQuantization(scalar=models.ScalarQuantizationConfig(type="int8")),
    "Qdrant turbo, 4 bits": models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=TURBO.BITS4)),
    "Qdrant turbo, 2 bits": models.TurboQuantization(turbo=models.TurboQuantQuantizationConfig(bits=TURBO.BITS2)),
    "Qdrant binary, 2 bits": models.BinaryQuantization(
        binary=models.BinaryQuantizationConfig(encoding=BINARY.TWO_BITS)
    ),
    "Qdrant binary, 1 bit": models.BinaryQuantization(binary=models.BinaryQuantizationConfig()),
}


def scales(documents: Floats) -> Floats:
    """One a dimension `[d]`."""
    return np.asarray(np.percentile(np.abs(documents), CLIP, axis=0) / 127, np.float32)


def rounded(values: Floats, bits: int) -> Floats:
    """To whole numbers of so many bits, halves to the even one."""
    return np.clip(np.rint(values), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def codes(documents: Floats, scale: Floats, bits: int, way: str) -> Floats:
    """The codes of one width as numbers that the scaled query is multiplied by `[documents, d]`."""
    stored, step = rounded(documents / scale, 8), 2.0 ** (8 - bits)
    if way == "direct":
        return rounded(documents / (scale * step), bits) * step
    return (rounded(stored / step, bits) if way == "double" else np.floor(stored / step)) * step


def best(scores: Any, size: int) -> Any:
    """The places of the highest `[queries, size]`."""
    return np.argsort(-scores, axis=1, kind="stable")[:, :size]


def by_engine(queries: Floats, documents: Floats, quantization: Any) -> Any:
    """The places that the embedded engine finds by its codes alone `[queries, DEPTHS[1]]`."""
    name, found = "codes", []
    with tempfile.TemporaryDirectory() as folder, EdgeClient(Path(folder)) as client:
        params = models.VectorParams(
            size=documents.shape[1],
            distance=models.Distance.DOT,
            quantization_config=quantization,
            hnsw_config=models.HnswConfigDiff(m=0),
        )
        client.create_collection(
            name, {"d": params}, optimizers_config=models.OptimizersConfigDiff(indexing_threshold=1)
        )
        for first in range(0, len(documents), 1000):
            rows = documents[first : first + 1000].tolist()
            points = [models.PointStruct(id=first + n, vector={"d": row}) for n, row in enumerate(rows)]
            client.upsert(name, points)
        client.optimize(name)
        alone = models.SearchParams(quantization=models.QuantizationSearchParams(rescore=False))
        for query in queries.tolist():
            answer = client.query_points(name, query, using="d", limit=DEPTHS[1], search_params=alone)
            found.append([int(point.id) for point in answer.points])
    return np.array(found)


def main() -> None:
    """Print a table for each collection."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("collections", nargs="+", help="folders below DIPTYCH_DATA")
    for name in parser.parse_args().collections:
        folder = folder_of(name)
        queries, qrels = read_beir(folder)
        texts = {key: f"{own.title} {own.text}".strip() for key, own in read_documents(folder).items()}
        ids = list(texts)
        encoder = Encoders.open(None).with_options("sentence-transformers", {"model": MODEL, "device": "cpu"})
        documents = np.stack(encoder.encode_document(list(texts.values())))  # type: ignore[arg-type]
        asked = np.stack(encoder.encode_query([query.text for query in queries]))  # type: ignore[arg-type]
        whole, scale = asked @ documents.T, scales(documents)
        print(f"\n{name}: {len(ids):,} documents, {len(queries)} queries, {documents.shape[1]} dimensions\n")
        print("| codes | of the 10 nearest in 10 | in 40 | nDCG@10 by codes | of 40 rescored |\n|---|---|---|---|---|")
        nearest, values = best(whole, K), dict[str, list[NDArray[np.float64]]]()
        for kind, found in ways(asked, documents, whole, scale):
            rescored = np.take_along_axis(found, best(np.take_along_axis(whole, found, 1), K), 1)
            runs = [run_of(kind, own, [query.id for query in queries], ids) for own in (found, rescored)]
            values[kind] = [*shares(nearest, found), *(quality(own, qrels) for own in runs)]
            others = [same_width(kind)] * len(DEPTHS) + [None if kind == WHOLE else WHOLE] * len(runs)
            given = enumerate(zip(values[kind], others, strict=True))
            cells = [cell(own, values[other][place] if other else None) for place, (own, other) in given]
            print(f"| {' | '.join([kind, *cells])} |", flush=True)


def shares(nearest: Any, found: Any) -> list[NDArray[np.float64]]:
    """By query, the share of the nearest among the best by code, at each of `DEPTHS`."""
    pairs = [*zip(nearest, found, strict=True)]
    return [np.array([len({*near} & {*own[:size]}) / K for near, own in pairs]) for size in DEPTHS]


def quality(run: Run, qrels: Qrels) -> NDArray[np.float64]:
    """By query, the metric."""
    values = evaluate(run, qrels, [METRIC]).per_query[METRIC]
    return np.array([values[query] for query in qrels.queries])


def same_width(kind: str) -> str | None:
    """Double Rounding at the width of this kind, which is another."""
    bits = re.search(r"(\d) bit", kind)
    other = f"{bits[1]} bits, double" if bits and int(bits[1]) in WIDTHS else None
    return None if kind == other else other


def ways(asked: Floats, documents: Floats, whole: Floats, scale: Floats) -> Iterator[tuple[str, Any]]:
    """What each kind of code finds `[queries, DEPTHS[1]]`."""
    yield WHOLE, best(whole, DEPTHS[1])
    for bits in WIDTHS:
        for way in ("double", "direct", "cut") if bits < 8 else ("double",):
            scores = (asked * scale) @ codes(documents, scale, bits, way).T
            yield f"{bits} bits, {way}", best(scores, DEPTHS[1])
    for kind, quantization in ENGINE.items():
        yield kind, by_engine(asked, documents, quantization)


def run_of(name: str, found: Any, queries: Sequence[str], ids: Sequence[str]) -> Run:
    """The first K places of each query as a run."""
    return Run(
        name,
        {
            own: [(ids[place], float(K - n)) for n, place in enumerate(row[:K])]
            for own, row in zip(queries, found, strict=True)
        },
    )


if __name__ == "__main__":
    main()
