"""Swaps the encoders of a live collection: `plan`, `apply`, `rollback`, `finish`, `status`.

    plan      shows what apply would do and cost; changes nothing
    apply     creates and fills new vectors while the old ones answer, passes the gate, cuts over in one update
    rollback  makes the old vectors live again, in one update, as long as they are kept
    finish    drops the old vectors

Adding or dropping a slot, and changing storage or the pipeline, take the same path. Begin with `apply`, which states
the algorithm; then `changes` and `plan` (what differs and costs), `transitions` (the metadata updates), `lease` (one
apply at a time), `backfill` and `gate`.
"""

from __future__ import annotations

from diptych.swap.apply import apply
from diptych.swap.apply_types import ApplyOptions, ApplyReport
from diptych.swap.documents import sample_documents, sample_points
from diptych.swap.gate.answers import KnownItem, SideBySide
from diptych.swap.gate.gate import Canary, GateReport, Judged
from diptych.swap.gate.judged import JudgedComparison
from diptych.swap.plan import Plan, Step, change_of, details, plan
from diptych.swap.rollback import StepBack, finish, rollback, state_token
from diptych.swap.status import Status, SwapStatus, VectorStatus, status

__all__ = [
    "ApplyOptions",
    "ApplyReport",
    "Canary",
    "GateReport",
    "Judged",
    "JudgedComparison",
    "KnownItem",
    "Plan",
    "SideBySide",
    "Status",
    "Step",
    "StepBack",
    "SwapStatus",
    "VectorStatus",
    "apply",
    "change_of",
    "details",
    "finish",
    "plan",
    "rollback",
    "sample_documents",
    "sample_points",
    "state_token",
    "status",
]
