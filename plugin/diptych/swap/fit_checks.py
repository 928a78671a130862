"""Refuses a student that does not fit its slot, before anything is encoded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from diptych.errors import SwapError
from diptych.passages import without_passages
from diptych.protocols import TEACHER_FILE
from diptych.slots.slot import Slot


def require_space_of(student: Slot, slot: Slot) -> None:
    """Refuse a student whose queries do not fit the vectors of the slot's encoder.

    Raises:
        SwapError: its vectors have another dimension, or it was trained for another encoder.
    """
    lengths = student.encoder.dimension, slot.encoder.dimension
    trained = _trained_for(str(student.config.options.get("model", "")), where=f"{slot.where}, query.student")
    now = slot.fingerprint
    documents = without_passages(now.documents or now.space)
    if lengths[0] != lengths[1] or (trained and documents not in trained):
        raise SwapError(
            "the student's queries do not fit the slot's vectors",
            where=f"{slot.where}, query.student",
            got=f"{lengths[0]} dimensions" + (f", trained for {_listed(trained)}" if trained else ""),
            expected=f"{lengths[1]} dimensions, for {documents}",
            do="train one for this encoder: diptych train with recipe: student",
        )


def _listed(trained: Sequence[str]) -> str:
    return trained[0] + (f" and {len(trained) - 1} others" if len(trained) > 1 else "")


def _trained_for(model: str, *, where: str) -> tuple[str, ...]:
    """The encoders of documents that a folder of recipe `student` or `elastic` was trained for; () for other models.

    Raises:
        SwapError: the folder's record cannot be read.
    """
    record = Path(model) / TEACHER_FILE
    if not model or not record.is_file():
        return ()
    try:
        documents = json.loads(record.read_text("utf-8"))["documents"]
        return tuple(map(str, documents)) if isinstance(documents, list) else (str(documents),)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SwapError(
            "the student's record of its teacher cannot be read",
            where=f"{where}, {record}",
            got=f"{type(error).__name__}: {error}",
            expected='{"documents": FINGERPRINT}, or a list of some, as the recipes student and elastic write it',
            do="train the student again, or restore the file",
        ) from error
