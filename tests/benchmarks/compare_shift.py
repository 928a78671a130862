"""How often `data_shift` reports documents of another kind, when there are none and when there are some.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_shift.py [--trials 100]

Vectors of all-MiniLM-L6-v2, 48 tokens, of the 6,606 descriptions of the harness H-deb, Debian's packages. A trial draws
a sample of them and vectors of today, both as `take_sample` does, of which a share is new: packages of one kind that
the others lack (by the beginning of their names), or one-line descriptions. It prints the share of trials with a
shift, with Wilson's 95 % interval; if nothing is new, these are false alarms. For comparison: vectors projected at
random to 64 numbers, the distance of the means instead of the discrepancy, and a sample of twice the size.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator

import numpy as np

from diptych.types import Floats
from diptych_experimental.data_shift import KEPT, LEVEL, PERMUTATIONS, TODAY, compared, rounded
from effects.deb import deb

KINDS = {"Haskell libraries": "libghc-", "Go libraries": "golang-", "packages of Node": "node-"}
SHORT = 64
SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)
Test = Callable[[Floats, Floats], float]


def encoded() -> dict[str, Floats]:
    """Vectors of the collection, `all`, and of each kind of new documents."""
    world = deb(0)
    synopses, descriptions = (own.numpy() for own in world.taught)
    kinds = {kind: np.array([name.startswith(own) for name in world.names]) for kind, own in KINDS.items()}
    found = {"all": descriptions[~np.any([*kinds.values()], axis=0)]}
    found |= {kind: descriptions[chosen] for kind, chosen in kinds.items()}
    found["one-line descriptions"] = synopses
    print({name: len(own) for name, own in found.items()}, flush=True)
    return found


def of_means(then: Floats, now: Floats) -> float:
    """Chance of the distance of the two means, by permutations."""
    rows, first, rng = np.concatenate([then, now]), len(then), np.random.default_rng(0)
    signs = np.full((PERMUTATIONS + 1, len(rows)), -1 / len(now), np.float32)
    signs[0, :first] = 1 / first
    for row in signs[1:]:
        row[rng.permutation(len(rows))[:first]] = 1 / first
    distances = np.linalg.norm(signs @ rows, axis=1)
    return float((1 + np.count_nonzero(distances[1:] >= distances[0])) / (PERMUTATIONS + 1))


def drawn(old: Floats, new: Floats, share: float, sizes: tuple[int, int], seed: int) -> tuple[Floats, Floats]:
    """A sample and vectors of today; the sample's documents may be among those of today, as in a collection."""
    rng, (kept, today) = np.random.default_rng(seed), sizes
    fresh = rng.binomial(today, share)
    now = [old[rng.choice(len(old), today - fresh, replace=False)], new[rng.choice(len(new), fresh)]]
    return old[rng.choice(len(old), kept, replace=False)], np.concatenate(now)


def repeated(old: Floats, samples: int, times: int) -> None:
    """Print how often one sample gives false alarms again and again."""
    alarms = []
    for seed in range(samples):
        rng = np.random.default_rng((seed, 7))
        then = old[rng.choice(len(old), KEPT, replace=False)]
        drawn = (old[rng.choice(len(old), TODAY, replace=False)] for _ in range(times))
        alarms.append(sum(compared(then, now)[1] <= LEVEL for now in drawn))
    told = {count: alarms.count(count) for count in sorted({*alarms})}
    print(f"false alarms of {samples} samples, each compared {times} times: {told}", flush=True)


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z = 1.96
    middle, spread = hits + z * z / 2, z * math.sqrt(hits * (trials - hits) / trials + z * z / 4)
    return (middle - spread) / (trials + z * z), (middle + spread) / (trials + z * z)


def ways() -> Iterator[tuple[str, tuple[int, int], Test]]:
    """What is measured: its name, the sizes of both samples, and the test."""

    def discrepancy(then: Floats, now: Floats) -> float:
        scale = float(np.abs(then).max()) / 127
        return compared(rounded(then, scale).astype(np.float32), rounded(now, scale).astype(np.float32))[1]

    def shorter(then: Floats, now: Floats) -> float:
        directions = np.random.default_rng(0).normal(size=(then.shape[1], SHORT)).astype(np.float32)
        return compared(then @ directions, now @ directions)[1]

    yield "discrepancy", (KEPT, TODAY), discrepancy
    yield "projected to 64 numbers", (KEPT, TODAY), shorter
    yield "distance of means", (KEPT, TODAY), of_means
    yield "twice the sample", (2 * KEPT, TODAY), discrepancy


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--false", type=int, default=500, help="trials without new documents")
    parser.add_argument("--ways", nargs="+", help="only these")
    parser.add_argument("--shares", nargs="+", type=float, default=[*SHARES])
    parser.add_argument("--repeated", type=int, default=50, help="samples that are compared again and again; 0: none")
    given = parser.parse_args()
    vectors = encoded()
    old, kinds = vectors["all"], [name for name in vectors if name != "all"]
    if given.repeated:
        repeated(old, given.repeated, 20)
    for way, sizes, test in ways():
        if given.ways and way not in given.ways:
            continue
        cases = [("nothing", 0.0, given.false)] + [
            (kind, share, given.trials) for kind in kinds for share in given.shares
        ]
        for kind, share, trials in cases:
            new = vectors[kind] if share else old
            found = sum(test(*drawn(old, new, share, sizes, seed)) <= LEVEL for seed in range(trials))
            low, high = wilson(found, trials)
            print(f"{way} | {kind} | {share:.2f} | {found / trials:.3f} [{low:.3f}, {high:.3f}]", flush=True)


if __name__ == "__main__":
    main()
