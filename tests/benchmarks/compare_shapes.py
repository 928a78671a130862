"""LDraw's parts found by their shape under rotation: descriptors that rotations do not change beside others.

    OMP_NUM_THREADS=1 python tests/benchmarks/compare_shapes.py build/ldraw/usr/share/ldraw --out build/shapes

`ldraw` says where the parts come from. Indexed is one cloud of each part; the query is another cloud of its surface,
turned by a random rotation (`turned`) or not (`upright`). A quarter of the parts, at most 1,000, choose the settings of
each descriptor, by the clouds of the first seed; the figures are of the rest. Each seed draws new clouds and rotations
of the same parts. Intervals are of 95 %: Student's over the seeds, and percentiles of 10,000 resamplings of the parts.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diptych_adapters.media_models.shape_descriptor import descriptor, unit_sized
from effects.running import FEW
from ldraw import Parts, cloud, rotation
from machine import facts
from media_text import told

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


class Clouds(NamedTuple):
    """A cloud of each part to index, and others to ask by: upright, turned, and turned with noise."""

    indexed: list[Doubles]
    asked: dict[str, list[Doubles]]

    @classmethod
    def of(cls, surfaces: Sequence[Doubles], seed: int) -> Clouds:
        """Drawn from the surfaces of the parts."""
        random = np.random.default_rng(seed)
        indexed, upright = ([cloud(own, COUNT, random) for own in surfaces] for _ in range(2))
        turned = [own @ rotation(random).T for own in upright]
        noisy = [own + random.normal(scale=NOISE * own.std() * 3**0.5, size=own.shape) for own in turned]
        return cls(indexed, {"upright": upright, "turned": turned, "turned, noise": noisy})


def main() -> None:
    """Choose, measure, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--out", type=Path, default=Path("build/shapes"))
    parser.add_argument("--parts", type=int, help="only so many")
    parser.add_argument("--seeds", nargs="+", type=int, default=[*FEW], help="of the clouds; the first one's choose")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    parts = Parts(given.root)
    surfaces = {name: own for name in parts.descriptions if len(own := parts.surface(name))}
    order = np.random.default_rng(0).permutation(len(surfaces))[: given.parts]
    drawn = {seed: Clouds.of([list(surfaces.values())[place] for place in order], seed) for seed in given.seeds}
    tuning = min(TUNING, len(order) // 4)
    print(f"{len(parts.descriptions):,} plain parts, {len(order):,} with a surface, {tuning:,} choose", flush=True)
    found: dict[str, Any] = {"machine": facts(), "parts": len(order), "tuning": tuning}
    for method, settings in METHODS.items():
        chosen = choose(method, settings, drawn[given.seeds[0]], tuning)
        hits: dict[str, list[Doubles]] = {}
        for clouds in drawn.values():
            indexed = vectors(settings[chosen], clouds.indexed[tuning:])
            for condition, queries in clouds.asked.items():
                places = ranks(indexed, vectors(settings[chosen], queries[tuning:]))
                hits.setdefault(f"{condition}, R@1", []).append((places == 0).astype(np.float64))
                hits.setdefault(f"{condition}, R@10", []).append((places < 10).astype(np.float64))
        print(f"{method}, {chosen}: {indexed.shape[1]} numbers", flush=True)
        found[method] = {"chosen": chosen, "numbers": indexed.shape[1]}
        found[method] |= {name: told(f"  {name}", own) for name, own in hits.items()}
        (given.out / "found.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def choose(method: str, settings: Mapping[str, Describe], clouds: Clouds, tuning: int) -> str:
    """The setting with the highest R@1 of turned queries among the first parts."""
    if len(settings) == 1:
        return next(iter(settings))
    means = {}
    for name, describe in settings.items():
        indexed, asked = (vectors(describe, own[:tuning]) for own in (clouds.indexed, clouds.asked["turned"]))
        means[name] = float((ranks(indexed, asked) == 0).mean())
        print(f"  {method}, {name}: tuning R@1 {means[name]:.3f}", flush=True)
    return max(means, key=lambda name: (means[name], name))


if __name__ == "__main__":
    main()
