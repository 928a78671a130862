"""Documents without their picture: found by their name alone, or by a picture's vector from a pool (PTUnifier).

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_missing_pictures.py --out build/image_text

The documents are 1,906 emoji with a name and a picture. Half of them, drawn by the seed, lose the picture. Two slots in
one space are fused: names and pictures, by a model that `compare_image_text.py` trains on Twemoji's pictures ("both
heads", one each seed, in `--out`). Queries are the keywords of emoji whose keywords no other emoji has, and pictures by
the other artist. The vector of a missing picture is
- left out (`skipped`),
- that of the name (`own name`),
- the mean of the ten pictures whose documents' names are nearest, weighted by softmax(cosine / .07) (`neighbours`),
- made of the name by the pool of `compare_bridges.py`, trained on the documents that have a picture (`prompts`),
- that of the picture, as if it were not missing (`complete`).
`names alone` searches no pictures at all.
Intervals are of differences from `skipped`, over the seeds (Student's) and over the queries, 95 %.
"""

from __future__ import annotations

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arms import print_differences
from compare_bridges import fitted, pictures_of
from compare_image_text import Emoji, Encode, unpacked
from diptych.config.stages import Fusion, Linear, Rrf
from diptych.search.fusion import PointId, fuse
from diptych.types import Floats
from diptych_adapters.media_text.encoders import MediaLexiconEncoder, MediaTextEncoder
from effects.running import FEW
from media_text import Values, dense_rows

SKIPPED, WAYS = "skipped", ("skipped", "names alone", "own name", "neighbours", "prompts", "complete")
NEAREST, TAU, CANDIDATES = 10, 0.07, 100
PROMPTS = "pool of prompts (PTUnifier)"
DENSE, SPACES = "dense", ("dense", "lexicon")
ARTISTS = ("noto", "twemoji")
FUSIONS: Mapping[str, Fusion] = {
    "rrf": Rrf(),
    "zscore, missing 0": Linear("zscore", missing=0.0),
    "zscore, missing 1": Linear("zscore", missing=1.0),
}
Rows = NDArray[np.bool_]


def neighbours(names: Floats, pictures: Floats, lacking: Rows) -> Floats:
    """For each document that lacks its picture, the weighted mean of those of documents with names like its own."""
    scores = unit(names[lacking]) @ unit(names[~lacking]).T
    nearest = np.argsort(-scores, axis=1, kind="stable")[:, :NEAREST]
    weights = np.exp((np.take_along_axis(scores, nearest, 1) - scores.max(1, keepdims=True)) / TAU)
    return unit((weights[:, :, None] * pictures[~lacking][nearest]).sum(1))


def unit(rows: Floats) -> Floats:
    """Rows at unit length; zeros stay."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9), np.float32)


def filled(way: str, names: Floats, pictures: Floats, lacking: Rows, seed: int) -> Floats:
    """The pictures' vectors with those that are missing filled in; where the picture slot holds none they are NaN."""
    found = pictures.copy()
    if way == "names alone":
        found[:] = np.nan
    elif way == SKIPPED:
        found[lacking] = np.nan
    elif way == "own name":
        found[lacking] = unit(names[lacking])
    elif way == "neighbours":
        found[lacking] = neighbours(names, pictures, lacking)
    elif way == "prompts":
        found[lacking] = fitted(PROMPTS, names[~lacking], pictures[~lacking], seed)(names[lacking])
    return found


def places(queries: Floats, names: Floats, pictures: Floats, wanted: Sequence[int], fusion: Fusion) -> Values:
    """The place at which each query finds the document that it wants, from 0; infinite if it does not."""
    held = np.flatnonzero(~np.isnan(pictures).any(1))
    by_name, by_picture = queries @ names.T, queries @ pictures[held].T
    found = np.full(len(queries), np.inf)
    for row, document in enumerate(wanted):
        rankings = {"name": ranking(by_name[row]), "picture": ranking(by_picture[row], held)}
        order = [point for point, _ in fuse(fusion, rankings)]
        found[row] = order.index(document) if document in order else np.inf
    return found


def ranking(scores: Floats, documents: NDArray[np.int64] | None = None) -> list[tuple[PointId, float]]:
    """A slot's candidates, best first; sparse vectors that share no word with the query are none."""
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    return [(int(n if documents is None else documents[n]), float(scores[n])) for n in order if scores[n] != 0]


def space(name: str, run: Path, images: Sequence[Any]) -> tuple[Encode, Floats]:
    """The dense space of a model, or its lexicon: how texts are encoded, and the pictures' vectors."""
    if name == DENSE:
        dense = MediaTextEncoder("image", model=str(run), device="cpu")
        return dense.encode_query, dense.encode_document(images)
    lexicon = MediaLexiconEncoder("image", model=str(run), device="cpu")
    vectors = dense_rows(lexicon.encode_document(images), lexicon.dimension)
    return lambda texts: dense_rows(lexicon.encode_query(texts), lexicon.dimension), vectors


def questions(rows: Sequence[Emoji]) -> dict[int, str]:
    """By place of an emoji, its keywords without its name, unless another emoji has the same."""
    words = [
        ", ".join(word for word in own["texts"]["en"]["keywords"] if word != own["texts"]["en"]["name"]) for own in rows
    ]
    counts = Counter(words)
    return {place: own for place, own in enumerate(words) if own and counts[own] == 1}


def measured(
    names: Floats, asked: Mapping[str, tuple[Floats, list[int]]], pictures: Floats, lacking: Rows, fusion: Fusion
) -> Iterator[tuple[str, Values]]:
    """By metric, the value of each query."""
    for kind, (queries, wanted) in asked.items():
        found = places(queries, names, pictures, wanted, fusion)
        without = lacking[wanted]
        for group, kept in (("without picture", without), ("with picture", ~without), ("all", without | ~without)):
            for k in (1, 10):
                yield f"{kind}, {group}, R@{k}", (found[kept] < k).astype(np.float64)


def main() -> None:
    """Fill, search, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/image_text"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[*FEW])
    parser.add_argument("--documents", default="noto", choices=ARTISTS, help="whose pictures the documents have")
    parser.add_argument("--spaces", nargs="+", default=[*SPACES], choices=SPACES)
    parser.add_argument("--ways", nargs="+", default=[*WAYS], choices=WAYS)
    parser.add_argument("--fusions", nargs="+", default=["rrf"], choices=[*FUSIONS])
    given = parser.parse_args()
    rows = unpacked(given.out)
    other = next(artist for artist in ARTISTS if artist != given.documents)
    images = pictures_of(given.out, given.documents, rows) + pictures_of(given.out, other, rows)
    english, keywords = [own["texts"]["en"]["name"] for own in rows], questions(rows)
    print(f"{len(keywords):,} queries of words, {len(rows):,} of pictures")
    values: dict[str, dict[str, dict[str, list[Values]]]] = {}
    for seed, name in itertools.product(given.seeds, given.spaces):
        lacking = np.zeros(len(rows), bool)
        lacking[np.random.default_rng(seed).permutation(len(rows))[: len(rows) // 2]] = True
        encode, vectors = space(name, given.out / f"both heads-{seed}", images)
        pictures, asking = np.split(vectors, 2)
        names = encode(english)
        asked = {"words": (encode([*keywords.values()]), [*keywords]), "picture": (asking, [*range(len(rows))])}
        ways = [way for way in dict.fromkeys([SKIPPED, *given.ways]) if name == DENSE or way != "prompts"]
        for way in ways:
            stored = filled(way, names, pictures, lacking, seed)
            for fusion in given.fusions:
                for metric, own in measured(names, asked, stored, lacking, FUSIONS[fusion]):
                    values.setdefault(f"{name}, {fusion}", {}).setdefault(metric, {}).setdefault(way, []).append(own)
    for system, by_metric in values.items():
        print(f"{system}:")
        print_differences(by_metric, baseline=SKIPPED, same_queries=False)


if __name__ == "__main__":
    main()
