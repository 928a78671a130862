"""The checks of the conformance kit: each takes an adapter and `Conditions`, and raises ConformanceFailure.

`checks_of` lists those for a kind. Begin with `conditions` (inputs and tolerances), then `encoders`. The contract
classes of `diptych.testing.contracts` run them under pytest.
"""

from __future__ import annotations

from diptych.testing.checks import encoders, other_kinds
from diptych.testing.checks.conditions import CHECKS, MEDIA, Check, Conditions, Known, Side, Triple

__all__ = ["Check", "Conditions", "Known", "Side", "Triple", "checks_of", "encoders", "other_kinds"]


def checks_of(conditions: Conditions) -> tuple[Check, ...]:
    """The checks that an adapter under these conditions must pass, those of media where it reads media."""
    return CHECKS[conditions.kind] if conditions.modality == "text" else tuple(MEDIA)
