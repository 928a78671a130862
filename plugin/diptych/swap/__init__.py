"""Swaps the encoders of a live collection: `plan`, `apply`, `rollback`, `finish`, `status`.

    plan      what the config asks for and what it would cost; changes nothing
    apply     new vectors are created and filled while the old ones answer; the gate; one update cuts over
    rollback  one update back, as long as the old vectors are kept
    finish    the old vectors are dropped

Adding or dropping a slot, and changing storage or the pipeline, go the same way.
"""

from __future__ import annotations

from diptych.swap.apply import apply
from diptych.swap.gate.gate import GateReport, Judged
from diptych.swap.plan import Plan, Step, plan
from diptych.swap.reports import ApplyOptions, ApplyReport
from diptych.swap.rollback import StepBack, finish, rollback
from diptych.swap.status import Status, SwapStatus, VectorStatus, status

__all__ = [
    "ApplyOptions",
    "ApplyReport",
    "GateReport",
    "Judged",
    "Plan",
    "Status",
    "Step",
    "StepBack",
    "SwapStatus",
    "VectorStatus",
    "apply",
    "finish",
    "plan",
    "rollback",
    "status",
]
