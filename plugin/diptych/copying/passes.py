"""Passes: reads both sides again, page by page, and copies differences until there are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qdrant_client import models

from diptych.copying.compare import Difference, Rule, difference
from diptych.copying.late_writes import Base
from diptych.copying.side import CopySide, Digest, struct
from diptych.errors import CopyError
from diptych.stores.scroll import PointId, plain_id

EXAMPLES = 5

OnCompared = Callable[[int], None]  # told how many points more have been compared


@dataclass
class Pass:
    """What one pass found: points of the source, those that differ, those that only the target has."""

    points: int = 0
    differing: int = 0
    extra: int = 0
    examples: list[Difference] = field(default_factory=list)
    digest: Digest = field(default_factory=Digest)

    @property
    def clean(self) -> bool:
        """Whether the two sides were the same."""
        return not self.differing and not self.extra

    def note(self, example: Difference) -> None:
        """Keep it as an example, if there is room."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(example)


class Comparison:
    """Compares source and target.

    Args:
        write: whether differences are copied; else they are only counted.
        base: remembers what the source was in the last pass.
    """

    def __init__(
        self,
        source: CopySide,
        target: CopySide,
        rules: Mapping[str, Rule],
        *,
        batch: int,
        write: bool,
        on_compared: OnCompared,
        base: Base | None = None,
    ) -> None:
        self._source, self._target, self._rules = source, target, rules
        self._batch, self._write, self._on_compared, self._base = batch, write, on_compared, base

    def run(self) -> Pass:
        """One pass: all points of the source, then those that only the target has.

        Raises:
            CopyError: the target does not return what was written to it.
        """
        result = Pass()
        if self._base is not None:
            self._base.clear()
        for records, _ in self._source.pages(self._batch):
            self._page(records, result)
            self._on_compared(len(records))
        for ids in self._target.ids(self._batch):
            self._extra(ids, result)
        return result

    def _page(self, records: list[models.Record], result: Pass) -> None:
        target_records = self._target.points([plain_id(record.id) for record in records])
        result.points += len(records)
        if self._base is not None:
            self._base.add(records)
        differing = [(record, what) for record in records if (what := self._difference(record, target_records))]
        result.differing += len(differing)
        for record, what in differing:
            result.note(Difference(plain_id(record.id), what))
        if differing and self._write:
            target_records |= self._rewrite([record for record, _ in differing])
        for record in target_records.values():
            result.digest.add(record)

    def _rewrite(self, records: list[models.Record]) -> dict[PointId, models.Record]:
        """Write these points of the source; returns them as read back from the target."""
        self._target.write([struct(record) for record in records])
        target_records = self._target.points([plain_id(record.id) for record in records])
        wrong = [Difference(plain_id(r.id), what) for r in records if (what := self._difference(r, target_records))]
        if wrong:
            raise mismatch(self._target, len(wrong), wrong[:EXAMPLES])
        return target_records

    def _extra(self, ids: list[PointId], result: Pass) -> None:
        source_points = self._source.points(ids, with_content=False) if ids else {}
        extra = [identifier for identifier in ids if identifier not in source_points]
        result.extra += len(extra)
        for identifier in extra:
            result.note(Difference(identifier, "not in the source"))
        if extra and self._write:
            self._target.delete(extra)
        elif extra:
            for record in self._target.points(extra).values():
                result.digest.add(record)
        # These points were deleted when their page was read and are there again: the target may hold an older version.
        if self._base is not None and (back := self._base.unknown(source_points)):
            self._page(list(self._source.points(back).values()), result)

    def _difference(self, record: models.Record, target_records: Mapping[PointId, models.Record]) -> str:
        return difference(record, target_records.get(plain_id(record.id)), self._rules)


def mismatch(target: CopySide, count: int, examples: list[Difference]) -> CopyError:
    """The error of a target that does not keep what it is given."""
    return CopyError(
        f"the target does not return what was written to it: {count} points",
        where=target,
        got="; ".join(map(str, examples)),
        expected="the source's payloads, and its vectors within the datatype",
        do="check whether another program writes to the target; diptych opens no unfinished copy",
        examples=tuple(examples),
    )
