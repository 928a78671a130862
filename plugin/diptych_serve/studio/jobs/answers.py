"""Answers of jobs, judging, swaps and health as pydantic models, for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from diptych_serve.studio.answers import Answer


class Fault(Answer):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str


class EvaluatedSide(Answer):
    """The mean of a side, with its interval; null for one query."""

    id: str
    label: str
    mean: float
    low: float | None
    high: float | None
    milliseconds: float | None
    generations: dict[str, int] = Field(description="Of the vectors that were asked, by slot.")


class SideDifference(Answer):
    """The second side minus the first."""

    mean: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int
    p: float
    test: str


class QueryRow(Answer):
    """The values of one query; `b`, `difference` and `overlap` are null with one side."""

    id: str
    text: str
    a: float
    b: float | None
    difference: float | None
    overlap: float | None = Field(description="Share of the first hits that both sides have, 0 to 1.")


class SliceRow(Answer):
    """The difference within a group of queries."""

    name: str
    value: str
    queries: int
    difference: float
    low: float
    high: float


class EvaluationResult(Answer):
    """What a job `evaluate` found."""

    metric: str
    verdict: str
    remarks: list[str]
    queries_judged: int
    sides: list[EvaluatedSide]
    difference: SideDifference | None
    queries: list[QueryRow]
    slices: list[SliceRow]


class TrialRow(Answer):
    """A pipeline that was tried."""

    label: str
    quality: float
    low: float
    high: float
    milliseconds: float
    front: bool
    chosen: bool
    tuned: bool
    present: bool
    diff: str = Field(description="Of the config; empty for those that are not worth one.")


class TuningResult(Answer):
    """What a job `tune` found; `baseline` and `chosen` are places in `trials`."""

    verdict: str
    baseline: int
    chosen: int
    passed: bool
    queries: int
    gains: list[str]
    trials: list[TrialRow]
    diff: str
    patch: bool = Field(description="Whether `patch FILE` can apply the diffs.")
    file: str
    remarks: list[str]
    seconds: float


class CheckedSlot(Answer):
    """The check of one slot."""

    name: str
    canary: dict[str, float] | None
    recall: float | None
    at: int
    queries: int
    attention: bool
    text: str


class CheckResult(Answer):
    """What a job `health` found."""

    verdict: str
    slots: list[CheckedSlot]
    queries: int


class JobAnswer(Answer):
    """How far a job is."""

    id: str
    kind: Literal["evaluate", "tune", "health"]
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    sentence: str
    stage: str
    done: int
    total: int | None
    seconds_left: int | None
    result: EvaluationResult | TuningResult | CheckResult | None
    error: Fault | None


class JudgingAnswer(BaseModel):
    """The progress of the preparation, the next pair, or the verdict; `state` says which."""

    model_config = ConfigDict(extra="allow")

    id: str
    state: Literal["waiting", "running", "failed", "cancelled", "judging", "settled", "finished"]
    done: int
    total: int | None
    error: Fault | None
    settled: bool = False
    verdict: str = ""
    query: dict[str, Any] | None = None
    document: dict[str, Any] | None = None
    differences: list[dict[str, Any]] | None = None


class SwapStep(Answer):
    """A step of a swap."""

    name: Literal["plan", "back-fill", "gate", "cut-over"]
    state: Literal["done", "running", "waiting", "failed", "undone"]
    text: str
    done: int | None
    total: int | None
    rate: float | None = Field(description="Documents a second.")
    seconds_left: float | None


class SwapAnswer(Answer):
    """The timeline of a swap."""

    state: Literal["none", "filling", "gate", "stopped", "kept"]
    sentence: str
    steps: list[SwapStep]
    generations: list[dict[str, Any]]
    history: list[dict[str, Any]]
    may_roll_back: bool
    reason: str
    rollback: str
    forward: bool = Field(description="The last cut-over was rolled back, so that a rollback goes forward again.")
    config: dict[str, str] | None = Field(description="`sentence` and lines to `restore`, if the config file is stale.")
    seen: str = Field(description="To be sent with a rollback, which does nothing in another state.")


class RolledBack(Answer):
    """What a rollback did."""

    collection: str
    outcome: str
    live: dict[str, str]
    dropped: list[str]
    retired: list[str]
    warnings: list[str]


class HealthAnswer(Answer):
    """What a collection records and counts of itself."""

    documents: int
    bytes: int | None
    slots: list[dict[str, Any]]
    sentences: list[str]
    config: dict[str, str] | None = Field(description="As `/swap` says it.")
