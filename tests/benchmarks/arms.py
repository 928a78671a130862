"""How the arms of a measurement differ from the first of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from effects.running import Condition, Interval, effect, query_interval


def print_differences(
    values: Mapping[str, Mapping[str, Sequence[NDArray[np.float64]]]],
    *,
    baseline: str,
    same_queries: bool,
    conditions: Sequence[Condition] = (),
) -> None:
    """Print each metric of each arm: its mean, the difference from the baseline with both intervals, the verdict.

    Args:
        values: by metric and arm, one a seed, with a number of each query `[queries]`.
        baseline: the arm that the others are compared with.
        same_queries: whether the seeds share their queries.
        conditions: see `effects.running.Effect`.
    """
    for metric, by_arm in values.items():
        for arm, found in by_arm.items():
            mean = f"{arm} | {metric} | {np.mean([np.mean(own) for own in found]):.3f}"
            if arm == baseline:
                print(mean, flush=True)
                continue
            if len(found) == 1:
                only = found[0] - by_arm[baseline][0]
                print(f"{mean} | {only.mean():+.3f} {_told(query_interval(only))} over queries | one seed", flush=True)
                continue
            given = {"same_queries": same_queries, "conditions": conditions}
            row = effect(arm, f"beside {baseline}", "", metric, by_arm[baseline], found, **given)  # type: ignore[arg-type]
            over = f"{_told(row.seeds)} over seeds, {_told(row.queries)} over queries"
            print(f"{mean} | {row.difference:+.3f} {over} | {row.verdict}", flush=True)


def cell(values: NDArray[np.float64], baseline: NDArray[np.float64] | None = None, digits: int = 3) -> str:
    """A mean and its difference from the baseline's with the interval over queries, `.821 +.005 [-.003, +.013]`.

    Args:
        values, baseline: of each query `[queries]`; the mean alone without a baseline, and `0` where no query differs.
        digits: after the point.
    """
    words = [f"{values.mean():.{digits}f}"]
    if baseline is not None:
        difference = values - baseline
        ends = (difference.mean(), *query_interval(difference))
        words.append("{} [{}, {}]".format(*(f"{end:+.{digits}f}" for end in ends)) if difference.any() else "0")
    return re.sub(r"(?<!\d)0\.", ".", " ".join(words))


def _told(interval: Interval | None) -> str:
    return "[]" if interval is None else f"[{interval[0]:+.3f}, {interval[1]:+.3f}]"
