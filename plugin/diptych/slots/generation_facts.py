"""`described`: the record of a generation for a given encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from diptych.config.models import SlotConfig
from diptych.metadata.models import Generation
from diptych.metadata.reading import Reading
from diptych.protocols import Kind, Statistics
from diptych.slots import guard


def described(
    encoder: Any,
    kind: Kind,
    config: SlotConfig,
    *,
    number: int,
    vector: str,
    reading: Reading,
    statistics: Statistics | None,
    accepts: Sequence[str] = ("text",),
    where: str,
) -> Generation:
    """The generation's record. The encoder is calibrated before its canaries are taken."""
    if statistics is not None:
        encoder.calibrate(statistics)
    fingerprint = guard.fingerprint_of(encoder, config.adapter, config.options)
    canaries = guard.record_canaries(encoder, kind, reading.modality, accepts, where=where)
    return Generation(
        number=number,
        vector=vector,
        kind=kind,
        adapter=config.adapter,
        options=config.options,
        storage=config.storage.model_dump(mode="json", exclude_none=True),
        space=fingerprint.space,
        numerics=fingerprint.numerics,
        documents=fingerprint.documents,
        canaries=canaries,
        statistics=dict(statistics) if statistics is not None else None,
        reading=reading,
        dimension=getattr(encoder, "dimension", None),
        similarity=getattr(encoder, "similarity", None),
    )
