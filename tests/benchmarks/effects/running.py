"""Effects: a method beside its baseline on the same seeds, with an interval and a verdict.

A script of this folder is a module with a function `effects() -> list[Effect]`; `run.py` finds it by its file name. It
runs both sides on each of `SEEDS` and hands on what was found, as one number a seed or one a query:

    def effects() -> list[Effect]:
        plain, masked = each(lambda seed: run(seed, mask=False)), each(lambda seed: run(seed, mask=True))
        return [effect("Relevance mask", "with ids beside without", "H-lex", "nDCG@10", plain, masked)]

Both sides see the same world, the same first weights and as many steps: those after which twice as many would give the
baseline less than `PLATEAU` (see `plateau`). What had to be tuned was tuned on `TUNING`, other seeds, and the script
says so. What a method presupposes is measured too (see `above`), and that the baseline has learnt (see `learnt`). A
row whose conditions fail has no verdict:

    steps, long_enough = plateau(lambda steps, seed: float(run(seed, steps=steps).mean()))
    better_teacher = above("teacher", each(teacher), "student", each(student))
    untrained = each(partial(run, steps=0))
    effect(..., conditions=[long_enough, better_teacher], untrained=untrained)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from diptych.evaluate import bootstrap_means, percentile_interval

SEEDS = (0, 1, 2, 3, 4)
FEW = SEEDS[:3]  # where a training takes long
TUNING = (100, 101, 102)
ONE = TUNING[:1]
CONFIDENCE, SAMPLES = 0.95, 10_000
PLATEAU = 0.005  # a doubling of steps that gives less ends a training
LEARNT = 0.1  # by which a trained baseline has to be better than the untrained model
Better: TypeAlias = Literal["higher", "lower", "equal"]
Interval: TypeAlias = tuple[float, float]
Found = TypeVar("Found")


class Condition(NamedTuple):
    """What must hold for a row to say anything: its figures in a few words, and whether it holds."""

    told: str
    met: bool


@dataclass(frozen=True, slots=True)
class Effect:
    """What a method did to a metric.

    Args:
        method: its name, as the table has it.
        compared: what is compared with what, in a few words.
        harness: H-lex, H-deb, H-mat, or another that the script tells of.
        metric: what was measured.
        baseline, found: without and with the method, one a seed.
        better: what the method's authors claim; `equal` claims no difference beyond `tolerance`.
        queries: 95 % interval of the mean difference over queries, where the metric has a value a query.
        tolerance: see `better`.
        page: the page of docs/research/methods, without .md; "" has none.
        conditions: what has to hold.
    """

    method: str
    compared: str
    harness: str
    metric: str
    baseline: Sequence[float]
    found: Sequence[float]
    better: Better = "higher"
    queries: Interval | None = None
    tolerance: float = 0.0
    page: str = ""
    conditions: tuple[Condition, ...] = ()

    @property
    def difference(self) -> float:
        """The mean over seeds of found minus baseline."""
        return float(np.mean(self._differences()))

    @property
    def seeds(self) -> Interval:
        """95 % interval of the mean paired difference over seeds, Student's."""
        return student_interval(self._differences())

    @property
    def verdict(self) -> str:
        """`shown`: all intervals, over seeds and where there is one over queries, lie wholly on the side that is
        claimed.

        `opposite`: both lie wholly on the other side. `not shown`: anything else. For `equal` it is shown when no seed
        differs by more than the tolerance, and else opposite when all intervals lie wholly on one side of 0. `not
        measurable`: a condition is not met.
        """
        if not all(one.met for one in self.conditions):
            return "not measurable"
        sign = -1 if self.better == "lower" else 1
        ends = [sign * end for interval in (self.seeds, self.queries) if interval is not None for end in interval]
        if self.better == "equal":
            alike = np.abs(self._differences()).max() <= self.tolerance
            return "shown" if alike else "opposite" if min(ends) > 0 or max(ends) < 0 else "not shown"
        return "shown" if min(ends) > 0 else "opposite" if max(ends) < 0 else "not shown"

    def to_data(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "baseline": list(self.baseline), "found": list(self.found), "verdict": self.verdict}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Effect:
        """From JSON."""
        given = {name: value for name, value in data.items() if name != "verdict"}
        conditions = tuple(Condition(*one) for one in given.get("conditions", ()))
        return cls(
            **{**given, "queries": tuple(given["queries"]) if given["queries"] else None, "conditions": conditions}
        )

    def _differences(self) -> NDArray[np.float64]:
        return np.asarray(self.found, np.float64) - np.asarray(self.baseline, np.float64)


def effect(
    method: str,
    compared: str,
    harness: str,
    metric: str,
    baseline: Sequence[ArrayLike],
    found: Sequence[ArrayLike],
    *,
    better: Better = "higher",
    same_queries: bool = False,
    tolerance: float = 0.0,
    page: str = "",
    conditions: Sequence[Condition] = (),
    untrained: Sequence[ArrayLike] = (),
) -> Effect:
    """The effect of what each seed gave: a number, or one of each query `[queries]`.

    Args:
        method, compared, harness, metric, better, tolerance, page, conditions: see `Effect`.
        baseline, found: one a seed, in the same order.
        same_queries: whether the seeds share their queries, which are then averaged over seeds first.
        untrained: the metric of the untrained model, which makes a further condition, see `learnt`; none where the
            baseline does not train, or the metric is no quality: then that of the training's quality is a condition.
    """
    left, right = ([np.atleast_1d(np.asarray(one, np.float64)) for one in side] for side in (baseline, found))
    differences = [b - a for a, b in zip(left, right, strict=True)]
    joined = np.mean(differences, axis=0) if same_queries else np.concatenate(differences)
    by_query = query_interval(joined) if len(differences[0]) > 1 else None
    low, high = ([float(one.mean()) for one in side] for side in (left, right))
    told = (*conditions, learnt(low, untrained)) if untrained else tuple(conditions)
    return Effect(method, compared, harness, metric, low, high, better, by_query, tolerance, page, told)


def each(run: Callable[[int], Found], seeds: Sequence[int] = SEEDS) -> list[Found]:
    """What a run gives for each seed."""
    return [run(seed) for seed in seeds]


def student_interval(differences: NDArray[np.float64]) -> Interval:
    """Where the mean of such differences lies, by Student's t."""
    size = len(differences)
    half = float(stdtrit(size - 1, (1 + CONFIDENCE) / 2)) * differences.std(ddof=1) / size**0.5
    return float(differences.mean() - half), float(differences.mean() + half)


def query_interval(differences: NDArray[np.float64]) -> Interval:
    """Where the mean of such differences lies, by resampling them."""
    means = bootstrap_means(differences, samples=SAMPLES, seed=0)
    return percentile_interval(means, size=len(differences), confidence=CONFIDENCE)


Setting = TypeVar("Setting")


def best(
    run: Callable[[Setting, int], float], settings: Sequence[Setting], seeds: Sequence[int] = TUNING[:2]
) -> Setting:
    """The setting with the highest mean over seeds that do not count; it is printed with the others."""
    means = {place: float(np.mean([run(setting, seed) for seed in seeds])) for place, setting in enumerate(settings)}
    told = ", ".join(f"{settings[place]} {mean:.4f}" for place, mean in means.items())
    print(f"   tuned on seeds {', '.join(map(str, seeds))}: {told}", flush=True)
    return settings[max(means, key=lambda place: means[place])]


def plateau(
    run: Callable[[int, int], float],
    start: int = 200,
    limit: int = 6400,
    seeds: Sequence[int] = TUNING[:2],
    of: str = "",
) -> tuple[int, Condition]:
    """The steps for both sides, and whether the baseline had learnt what it can by then.

    Args:
        run: `(steps, seed) -> metric` of the baseline, higher is better.
        start: the fewest steps; they are doubled until neither a doubling nor the next gives `PLATEAU` more. Where the
            baseline is worse after the first doubling already, the start is too long to tell.
        limit: the most.
        seeds: that do not count.
        of: the baseline, where rows have several.
    """
    known: dict[int, float] = {}

    def at(steps: int) -> float:
        if steps not in known:
            known[steps] = float(np.mean([run(steps, seed) for seed in seeds]))
            print(f"   baseline at {steps} steps {known[steps]:.4f}", flush=True)
        return known[steps]

    steps, name = start, f"{of}: " if of else ""
    while steps < limit:
        now, then = at(steps), at(2 * steps)
        if max(then, at(4 * steps)) - now < PLATEAU:
            told = f"{name}{steps:,} steps, twice as many {then - now:+.3f}"
            return steps, Condition(told, steps > start or then - now > -PLATEAU)
        steps *= 2
    return steps, Condition(f"{name}{steps:,} steps, half as many {at(steps // 2) - at(steps):+.3f}", False)


def above(higher: str, high: Sequence[ArrayLike], lower: str, low: Sequence[ArrayLike], by: float = 0.0) -> Condition:
    """That one thing is better than another by more than `by`, in the mean over seeds: a teacher than its student."""
    left, right = (float(np.mean([np.asarray(one, np.float64).mean() for one in side])) for side in (high, low))
    return Condition(f"{higher} {left:.3f} above {lower} {right:.3f}", left - right > by)


def learnt(baseline: Sequence[ArrayLike], untrained: Sequence[ArrayLike]) -> Condition:
    """That a trained baseline is better than the untrained model by more than `LEARNT`."""
    return above("baseline", baseline, "untrained", untrained, by=LEARNT)
