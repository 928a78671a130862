"""LDraw's parts found by their shape under rotation: descriptors that rotations do not change beside others.

    OMP_NUM_THREADS=1 python tests/benchmarks/compare_shapes.py build/ldraw/usr/share/ldraw --out build/shapes

`ldraw` says where the parts come from. Indexed is one cloud of each part; the query is another cloud of its surface,
turned by a random rotation (`turned`) or not (`upright`). A quarter of the parts, at most 1,000, choose the settings of
each descriptor; the figures are of the rest. Intervals are percentiles of 10,000 resamplings of the parts, 95 %. The
clouds' seed is 0.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych_adapters.media_models.shape_descriptor import descriptor, unit_sized
from effects.running import query_interval
from ldraw import Parts, cloud, rotation
from machine import facts

Doubles = NDArray[np.float64]
Describe = Callable[[Doubles], Doubles]
COUNT, TUNING = 512, 1000  # points of a cloud, parts that choose the settings at most
NOISE = 0.02  # of `turned, noise`: its standard deviation, in root mean square distances from the centre


def histogram(points: Doubles, bins: int) -> Doubles:
    """Distances of all pairs (D2 of Osada et al., "Shape Distributions", 2002), square roots of their shares."""
    points = unit_sized(points)
    return _shares(_distances(points)[np.triu_indices(len(points), 1)], bins, 4.0)


def triples(points: Doubles, bins: int) -> Doubles:
    """Pairs by both distances from the centre and their own distance, square roots of their shares."""
    points = unit_sized(points)
    first, second = np.triu_indices(len(points), 1)
    radii = np.minimum(np.linalg.norm(points, axis=1) / 2.0 * bins, bins - 1).astype(int)
    low, high = np.minimum(radii[first], radii[second]), np.maximum(radii[first], radii[second])
    between = np.minimum(_distances(points)[first, second] / 4.0 * 2 * bins, 2 * bins - 1).astype(int)
    counts = np.bincount((low * bins + high) * 2 * bins + between, minlength=2 * bins**3)
    return np.asarray(np.sqrt(counts / counts.sum()))


def both(points: Doubles, shells: int, degrees: int, bins: int) -> Doubles:
    """The power spectrum and D2, joined."""
    return np.concatenate([descriptor(points, shells, degrees), histogram(points, bins)])


def grid(points: Doubles, cells: int, *, aligned: bool) -> Doubles:
    """Square roots of the shares of points in the cells of a cube; `aligned`: along the principal axes."""
    points = unit_sized(points)
    if aligned:
        _, _, axes = np.linalg.svd(points, full_matrices=False)
        points = points @ axes.T
        points = points * np.where((points**3).sum(axis=0) < 0, -1, 1)  # the heavier tail lies ahead
    places = np.clip((points / 2.5 + 1) / 2 * cells, 0, cells - 1).astype(int)
    counts = np.bincount(places @ [cells**2, cells, 1], minlength=cells**3)
    return np.asarray(np.sqrt(counts / len(points)))


def in_order(points: Doubles) -> Doubles:
    """The coordinates of the points, sorted by them."""
    points = unit_sized(points)
    return points[np.lexsort(points.T)].ravel()


def _distances(points: Doubles) -> Doubles:
    squares = (points**2).sum(axis=1)
    return np.asarray(np.sqrt(np.maximum(squares[:, None] + squares - 2 * points @ points.T, 0)))


def _shares(values: Doubles, bins: int, most: float) -> Doubles:
    counts = np.bincount(np.minimum(values / most * bins, bins - 1).astype(int), minlength=bins)
    return np.asarray(np.sqrt(counts / counts.sum()))


METHODS: Mapping[str, Mapping[str, Describe]] = {
    "power spectrum": {
        f"{shells} shells, degree {degrees}": partial(descriptor, shells=shells, degrees=degrees)
        for shells, degrees in ((4, 6), (6, 8), (8, 8), (8, 12))
    },
    "distances of pairs": {f"{bins} bins": partial(histogram, bins=bins) for bins in (32, 64, 128)},
    "pairs and centre": {f"{bins} bins": partial(triples, bins=bins) for bins in (6, 10, 14)},
    "power spectrum and distances": {"8, 8, 64": partial(both, shells=8, degrees=8, bins=64)},
    "grid along principal axes": {f"{cells} cells": partial(grid, cells=cells, aligned=True) for cells in (4, 6, 8)},
    "grid": {f"{cells} cells": partial(grid, cells=cells, aligned=False) for cells in (4, 6, 8)},
    "sorted points": {"all": in_order},
}


def ranks(documents: Doubles, queries: Doubles) -> NDArray[np.int64]:
    """How many documents are at least as near to each query as its own, but for itself; by cosine."""
    scores = _unit(queries) @ _unit(documents).T
    return np.asarray((scores >= scores.diagonal()[:, None]).sum(axis=1) - 1)


def _unit(rows: Doubles) -> Doubles:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def vectors(describe: Describe, clouds: Iterable[Doubles]) -> Doubles:
    """A row for each cloud."""
    return np.stack([describe(own) for own in clouds]).astype(np.float32)


def queries_of(clouds: list[Doubles], seed: int) -> dict[str, list[Doubles]]:
    """The clouds as queries: upright, turned, and turned with noise."""
    random = np.random.default_rng(seed)
    turned = [own @ rotation(random).T for own in clouds]
    noisy = [own + random.normal(scale=NOISE * own.std() * 3**0.5, size=own.shape) for own in turned]
    return {"upright": clouds, "turned": turned, "turned, noise": noisy}


def main() -> None:
    """Choose, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/shapes"))
    parser.add_argument("--parts", type=int, help="only so many")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    parts, random = Parts(given.root), np.random.default_rng(0)
    surfaces = {name: own for name in parts.descriptions if len(own := parts.surface(name))}
    names = [list(surfaces)[place] for place in random.permutation(len(surfaces))][: given.parts]
    documents, queries = ([cloud(surfaces[name], COUNT, random) for name in names] for _ in range(2))
    asked = queries_of(queries, 1)
    tuning = min(TUNING, len(names) // 4)
    print(f"{len(parts.descriptions):,} plain parts, {len(names):,} with a surface, {tuning:,} choose", flush=True)
    found: dict[str, Any] = {"machine": facts(), "parts": len(names), "tuning": tuning}
    for method, settings in METHODS.items():
        chosen: tuple[float, str] = (-1.0, "")
        for name, describe in settings.items():
            places = ranks(vectors(describe, documents[:tuning]), vectors(describe, asked["turned"][:tuning]))
            chosen = max(chosen, (float((places == 0).mean()), name))
            print(
                f"  {method}, {name}: tuning R@1 {(places == 0).mean():.3f} R@10 {(places < 10).mean():.3f}", flush=True
            )
        describe = settings[chosen[1]]
        started = time.perf_counter()
        indexed = vectors(describe, documents[tuning:])
        milliseconds = (time.perf_counter() - started) / len(indexed) * 1000
        own_facts: dict[str, Any] = {"chosen": chosen[1], "numbers": indexed.shape[1], "ms": milliseconds}
        for condition, clouds in asked.items():
            places = ranks(indexed, vectors(describe, clouds[tuning:]))
            for measure, hits in (("R@1", places == 0), ("R@10", places < 10)):
                low, high = query_interval(hits.astype(np.float64))
                own_facts[f"{condition}, {measure}"] = [float(hits.mean()), low, high]
        found[method] = own_facts
        print(method, json.dumps(own_facts), flush=True)
        (given.out / "found.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
