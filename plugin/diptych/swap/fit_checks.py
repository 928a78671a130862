"""Refuses a config whose parts do not fit one another, before anything is encoded: a student, a reranker's anchors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from diptych.config.models import Config
from diptych.errors import RegistryError, SwapError
from diptych.passages import without_passages
from diptych.plugins.anchor_scores import ANCHORS, reranker_of, reranker_space
from diptych.protocols import TEACHER_FILE, Reranker
from diptych.registry import Registry
from diptych.slots.slot import Slot


def require_same_reranker(config: Config, slots: Sequence[Slot], registry: Registry) -> None:
    """Refuse anchors that another reranker scores than the one that explores by them.

    A search would refuse them as well, but only after all documents have been scored. The stage's reranker is loaded
    only if its options are not those of the slot; options such as a batch size do not change the scores.

    Raises:
        SwapError: the two are different rerankers.
    """
    by_name = {slot.name: slot for slot in slots if slot.config.anchors is not None}
    for number, stage in enumerate(config.search.rerank):
        slot = by_name.get(stage.explore.anchors) if stage.explore else None
        if slot is None:
            continue
        options = {name: value for name, value in slot.config.options.items() if name != ANCHORS}
        if (slot.config.adapter, options) == (stage.adapter, stage.options):
            continue
        where = f"search.rerank.{number}.explore, {slot.where}"
        try:
            reranker = registry.create(stage.adapter, stage.options, where=where)
        except RegistryError:  # the search, and the gate of an apply, say why
            continue
        scores = reranker_of(slot.fingerprint.space)
        explores = reranker_space(cast("Reranker", reranker), stage.adapter, stage.options)
        if explores != scores:
            raise SwapError(
                "the anchors are scored by another reranker than the one that explores by them",
                where=where,
                got=f"a reranker of {explores}",
                expected=scores,
                do="name the same adapter and options in the slot and in the stage",
            )


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
