"""LDraw's parts found by their descriptions: the recipe `points_text`, with parts that are held out and turned.

    OMP_NUM_THREADS=1 python tests/benchmarks/compare_points_text.py build/ldraw/usr/share/ldraw --out build/points_text

`ldraw` says where the parts come from. The seed holds out a tenth of the descriptions with all of their parts. Their
clouds are turned at random. Queries: the held-out descriptions, among the held-out parts (`description`) and among all
parts (`description, all`); the first words of descriptions, such as Brick, among the held-out parts (`kind`). Beside
the recipe: ridge regressions from three features to MiniLM's vectors, of turned and upright parts. Intervals are
Student's over the seeds and percentiles over the queries, 95 %.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compare_shapes import COUNT, grid, vectors
from diptych.types import Floats
from diptych_adapters.media_models.shape_descriptor import descriptor
from diptych_adapters.media_text.encoders import text_encoder
from ldraw import Parts, cloud, rotation
from machine import facts
from media_text import MODEL, measures, scores_of, told, train

Doubles = NDArray[np.float64]
SEEDS, HELD, COMMON = (0, 1, 2), 0.1, 40  # seeds, share of the descriptions held out, parts of a kind that is asked for
TRAINING: dict[str, Any] = {
    "epochs": 30,
    "batch_size": 128,
    "learning_rate": 3e-3,
    "schedule": "cosine",
    "device": "cpu",
}
FEATURES = {
    "power spectrum": partial(descriptor, shells=6, degrees=8),
    "grid along principal axes": partial(grid, cells=6, aligned=True),
    "grid": partial(grid, cells=6, aligned=False),
}
RIDGE = (0.01, 0.1, 1.0, 10.0)  # chosen on a tenth of the training parts


def read(root: Path, limit: int | None, folder: Path) -> tuple[list[str], list[Doubles], list[Doubles]]:
    """Descriptions, clouds, and turned other clouds of the same parts; the first are written as `N.npy`."""
    parts, random = Parts(root), np.random.default_rng(0)
    surfaces = {name: own for name in parts.descriptions if len(own := parts.surface(name))}
    names = [*surfaces][:limit]
    clouds, others = ([cloud(surfaces[name], COUNT, random) for name in names] for _ in range(2))
    turned = [own @ rotation(random).T for own in others]
    for number, own in enumerate(clouds):
        np.save(folder / f"{number}.npy", own.astype(np.float32))
    return [parts.descriptions[name] for name in names], clouds, turned


def kind_of(description: str) -> str:
    """The first word."""
    return description.split()[0]


def texts_of(description: str) -> list[str]:
    """What the training says of a part: its description, and its kind."""
    return [description, kind_of(description)]


def ridge(features: Doubles, targets: Floats, split: NDArray[np.bool_], texts: Floats, tested: Doubles) -> Floats:
    """Scores `[texts, tested]` by a linear map from features to texts; the parts of `split` choose the penalty."""
    mean, spread = features.mean(0), features.std(0) + 1e-6
    scaled, asked = (features - mean) / spread, (tested - mean) / spread
    best = max(RIDGE, key=lambda own: _found(_fit(scaled[~split], targets[~split], own), scaled[split], targets[split]))
    predicted = asked @ _fit(scaled, targets, best)
    found: Floats = texts @ (predicted / np.linalg.norm(predicted, axis=1, keepdims=True)).T
    return found


def _fit(features: Doubles, targets: Floats, penalty: float) -> Doubles:
    square = features.T @ features
    return np.asarray(np.linalg.solve(square + penalty * len(features) * np.eye(len(square)), features.T @ targets))


def _found(weights: Doubles, features: Doubles, targets: Floats) -> float:
    predicted = features @ weights
    cosines = (predicted * targets).sum(1) / np.linalg.norm(predicted, axis=1)
    return float(cosines.mean())


def main() -> None:
    """Sample, train, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/points_text"))
    parser.add_argument("--parts", type=int, help="only so many")
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    parser.add_argument("--epochs", type=float, default=TRAINING["epochs"])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    descriptions, clouds, turned = read(given.root, given.parts, given.out)
    kinds = [kind_of(own) for own in descriptions]
    encoder = text_encoder("sentence-transformers", {"model": MODEL})
    written = list(dict.fromkeys([*descriptions, *kinds]))
    read_by = dict(zip(written, encoder.encode_query(written), strict=True))
    features = {name: (vectors(own, clouds), vectors(own, turned)) for name, own in FEATURES.items()}
    values: dict[str, list[Any]] = {}
    for seed in given.seeds:
        random = np.random.default_rng(seed)
        distinct = random.permutation(sorted({*descriptions})).tolist()
        held = {*distinct[: round(HELD * len(distinct))]}
        tested = np.array([own in held for own in descriptions])
        rows = [
            {"points": f"{place}.npy", "texts": texts_of(descriptions[place]), "group": descriptions[place]}
            for place in np.flatnonzero(~tested).tolist()
        ]
        options = {"seed": seed, "training": {**TRAINING, "epochs": given.epochs}}
        run = train("points", given.out / f"run-{seed}", rows, options)
        counts = Counter(np.array(kinds)[tested].tolist())
        asked: dict[str, tuple[list[str], Any, NDArray[np.bool_]]] = {
            "description": (sorted(held), np.array(descriptions), tested),
            "description, all": (sorted(held), np.array(descriptions), np.ones_like(tested)),
            "kind": ([own for own, count in counts.items() if count >= COMMON // 8], np.array(kinds), tested),
        }
        split = random.random(int((~tested).sum())) < HELD
        for query, (texts, names, among) in asked.items():
            relevant = np.array(texts)[:, None] == names[among]
            places = np.flatnonzero(among)
            scores = scores_of("points", run, [turned[place].astype(np.float32) for place in places], texts)
            text_vectors = np.stack([read_by[own] for own in texts])
            targets = np.stack([read_by[own] for own in np.array(descriptions)[~tested].tolist()])
            for name, pair in features.items():
                for condition, own in zip(("upright", "turned"), pair, strict=True):
                    scores[f"ridge, {name}, {condition}"] = ridge(
                        pair[0][~tested], targets, split, text_vectors, own[places]
                    )
            _record(values, query, scores, relevant)
    found: dict[str, Any] = {"machine": facts(), "parts": len(descriptions)}
    found |= {name: told(name, own) for name, own in values.items()}
    (given.out / "found.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def _record(values: dict[str, list[Any]], query: str, scores: dict[str, Floats], relevant: NDArray[np.bool_]) -> None:
    chance = np.random.default_rng(0).random(relevant.shape, np.float32)
    for system, matrix in {**scores, "chance": chance}.items():
        for measure, own in measures(matrix, relevant).items():
            values.setdefault(f"{query} | {system} | {measure}", []).append(own)


if __name__ == "__main__":
    main()
