"""`MediaLosses`: stops a populate that would take the pictures, or other media, of many documents away.

The usual cause is a forgotten `--media COLUMN=MODALITY`: the rows then have no media, so every document looks changed.
The stored hashes are read before anything is written, and with them which media a document has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from diptych.errors import PopulateError
from diptych.metadata.media_payloads import MEDIA, has_media, media_of
from diptych.populate.store import Store
from diptych.populate.validate import Item
from diptych.stores.scroll import PointId

# A run is refused that takes media from more than this share of the documents that have some, both of those read so far
# and of all of them; of the latter more than MOST is enough.
SHARE = Fraction(1, 5)
MOST = 100  # documents
EXAMPLES = 5  # ids that the error names


class MediaLosses:
    """Counts the documents that would lose media that slots read, batch by batch, before each batch is written.

    Args:
        store: the collection; its `modalities` are those that slots read.
        allowed: any number of documents may lose their media.
        dry_run: nothing is refused; `warnings` says what would be.
    """

    def __init__(self, store: Store, *, allowed: bool = False, dry_run: bool = False) -> None:
        self._store, self._allowed, self._dry_run = store, allowed, dry_run
        self._had, self._lost = Counter[str](), Counter[str]()
        self._examples: dict[str, list[str]] = {}
        self._limits: dict[str, int] = {}

    def check(self, batch: Sequence[Item], stored: Mapping[PointId, Mapping[str, Any] | None]) -> None:
        """Count a batch, given what is stored of its documents.

        Raises:
            PopulateError: too many of the documents read so far would lose their media; the batch is not written.
        """
        if not self._store.modalities:
            return
        for item in batch:
            known = stored.get(item.point) or {}
            had = media_of(known["payload"]) if "payload" in known else known.get(MEDIA) or {}
            if known.get("id") != item.document.id:
                continue
            for modality in self._store.modalities:
                if modality in had:
                    self._count(modality, item)
        if not self._dry_run and (refusal := self._refusal()):
            raise refusal

    def warnings(self) -> list[str]:
        """A sentence for each modality whose media some documents have lost, or would lose in a dry run."""
        if self._dry_run and (refusal := self._refusal()):
            return [f"populate would be refused: {refusal.what}: {refusal.do}"]
        verb = "would lose" if self._dry_run else "have lost"
        return [
            f"{lost:,} of the documents read {verb} their {modality}, which the source does not give: "
            f"{', '.join(self._examples[modality])}"
            for modality, lost in self._lost.items()
        ]

    def _count(self, modality: str, item: Item) -> None:
        self._had[modality] += 1
        if modality in item.document.media:
            return
        self._lost[modality] += 1
        examples = self._examples.setdefault(modality, [])
        if len(examples) < EXAMPLES:
            examples.append(item.document.id)

    def _refusal(self) -> PopulateError | None:
        if self._allowed:
            return None
        for modality, lost in self._lost.items():
            if lost <= SHARE * self._had[modality] or lost <= self._limit(modality):
                continue
            more = ", …" if lost > EXAMPLES else ""
            return PopulateError(
                f"{lost:,} of {self._had[modality]:,} documents read so far would lose their {modality}",
                where=f"collection {self._store.name!r}",
                got=f"no {modality} in the source for {', '.join(map(repr, self._examples[modality]))}{more}",
                expected=f"at most {self._limit(modality):,} that lose it",
                do=f"name the column of the media: --media COLUMN={modality}, in Python open_source(path, "
                f"media={{'COLUMN': {modality!r}}}); to take them away: --drop-media, in Python drop_media=True",
                lost=lost,
            )
        return None

    def _limit(self, modality: str) -> int:
        """How many documents may lose their media; counted before the run has written any that do."""
        if modality not in self._limits:
            held = self._store.count(has_media(modality))
            self._limits[modality] = max(1, min(MOST, int(SHARE * held)))
        return self._limits[modality]
