"""Which documents get synthetic queries."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diptych.errors import ConfigError


def sampled(documents: Mapping[str, str], count: int, *, strata: int = 4, seed: int = 0) -> list[str]:
    """Ids of `count` documents, all of them when there are no more, stratified by length.

    Strata are quantiles of the number of words; each is drawn from in proportion to its size. A larger sample with the
    same seed begins with the smaller one, so that doubling adds and replaces nothing.

    Raises:
        ConfigError: a negative count, or no strata.
    """
    if count < 0 or strata < 1:
        got = f"count {count}, strata {strata}"
        raise ConfigError("a sample of no size", where="sampled", got=got, expected="count >= 0, strata >= 1")
    ids = list(documents)
    order = np.argsort([len(documents[identifier].split()) for identifier in ids], kind="stable")
    random = np.random.default_rng(seed)
    keyed: list[tuple[float, str]] = []
    for stratum in np.array_split(order, strata):
        shuffled = random.permutation(stratum)
        keyed += [((place + 0.5) / len(shuffled), ids[row]) for place, row in enumerate(shuffled)]
    return [identifier for _, identifier in sorted(keyed)[:count]]
