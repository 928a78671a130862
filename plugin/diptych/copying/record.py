"""The record in a copy's metadata (its source and its progress), and the report of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from diptych.errors import CopyError
from diptych.metadata.models import Record
from diptych.metadata.store import APPLY, CLAIM, COPY, GATE, RETIRED, StoredId
from diptych.runtime.validation_messages import expectation


class CopyRecord(Record):
    """The value of the metadata key `diptych_copy`.

    Args:
        store, collection: the source.
        stage: "points" while the source is gone through for the first time, "passes" while what changed meanwhile is
            copied, "done".
        offset: id of the first point that is not copied yet; None at the beginning.
        copied: how many points are.
        began, finished, by: when and by whom.
        digest: of the target's points when it was verified; None while or where it was not.
        metadata: hash of the metadata that was copied.
    """

    format: int = 1
    store: str
    collection: str
    stage: Literal["points", "passes", "done"] = "points"
    offset: StoredId | None = None
    copied: int = 0
    began: str = ""
    finished: str = ""
    by: str = ""
    digest: str | None = None
    metadata: str = ""

    @property
    def source(self) -> str:
        """The source as errors name it."""
        return f"{self.store}, collection {self.collection!r}"

    def payload(self) -> dict[str, Any]:
        """The record in the form that the target stores."""
        return {COPY: self.model_dump(mode="json")}


def record_of(metadata: Mapping[str, Any], where: str) -> CopyRecord | None:
    """The record in a collection's metadata, None when it is not a copy.

    Raises:
        CopyError: it is damaged, or of a newer release.
    """
    if metadata.get(COPY) is None:
        return None
    try:
        return CopyRecord.model_validate(metadata[COPY])
    except ValidationError as error:
        first = error.errors()[0]
        raise CopyError(
            "the target's copy record cannot be read",
            where=f"{where}, metadata {COPY}.{'.'.join(map(str, first['loc']))}",
            got=repr(first["input"])[:80],
            expected=expectation(first),
            do="use the release of diptych that wrote it, or copy under another name: --as NAME",
        ) from error


def copied_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The part of the source's metadata that a copy takes over.

    All but who swaps there, what the gate said of it, since when vectors are retired there, and whose copy the source
    itself is.
    """
    here = {key for key in metadata if key in (APPLY, COPY, GATE, RETIRED) or key.startswith(CLAIM)}
    return {key: value for key, value in metadata.items() if key not in here and value is not None}


def hash_of(metadata: Mapping[str, Any]) -> str:
    """A hash of that part."""
    return hashlib.sha256(json.dumps(copied_metadata(metadata), sort_keys=True).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class CopyReport:
    """Counts of one run of `copy_collection`.

    Args:
        source, target: store and collection, as text without secrets.
        points: how many the source has.
        copied: written in this run's first going through the source.
        changed, deleted: points copied or deleted afterwards because the two sides differed.
        passes: comparisons of all points on both sides; the last one found no difference.
        resumed: whether a run before had begun this copy.
        verified: whether all contents were read again on both sides and compared.
        indexes: payload fields that are indexed.
    """

    source: str
    target: str
    points: int = 0
    copied: int = 0
    changed: int = 0
    deleted: int = 0
    passes: int = 0
    resumed: bool = False
    verified: bool = False
    indexes: tuple[str, ...] = ()
    seconds: float = 0.0
    warnings: tuple[str, ...] = ()

    @property
    def written(self) -> int:
        """Number of points that this run wrote or deleted in the target."""
        return self.copied + self.changed + self.deleted
