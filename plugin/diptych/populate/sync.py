"""`--sync`: deletes documents that the source no longer has, unless they are too many.

A wrong file looks like a source that has lost nearly everything. So the share of documents to delete is checked before
anything is written, and again before anything is deleted.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import IO

from diptych.errors import PopulateError, SyncRefused, brief
from diptych.handle.view import document_key
from diptych.populate.read_ahead import batched
from diptych.populate.rejects import Rejects
from diptych.populate.store import PAGE, Store
from diptych.populate.validate import SeenIds

EXAMPLES = 5  # ids that an error or a report names


class Sync:
    """The deletions of one run: the limit, and what was, or would be, deleted.

    Documents are counted by tenant; one whose point moved is not gone, though its old point is to be deleted.

    Args:
        store, tenant: the collection; with a tenant, only its documents count.
        share: share of the documents that may be deleted.
    """

    def __init__(self, store: Store, tenant: str | None, share: float) -> None:
        self._store, self._tenant, self._share = store, tenant, share
        self._where = f"collection {store.name!r}" + (f", tenant {tenant!r}" if tenant is not None else "")
        self._before: Counter[str | None] | None = None  # documents by tenant before the run has written any
        self.deleted, self.examples = 0, list[str]()

    def check(self, seen: SeenIds, read: int, rejects: Rejects) -> None:
        """Raise SyncRefused when the source lacks too many documents of the collection."""
        if obstacle(read, rejects):
            return
        with self._points_of_gone(seen) as (_, held, refusal):
            if refusal:
                raise refusal
            self._before = held

    def delete(self, seen: SeenIds, read: int, rejects: Rejects) -> list[str]:
        """Delete what the source does not have; returns a warning if nothing may be deleted.

        Points that diptych did not write stay; with a tenant, so do those of other tenants.

        Raises:
            SyncRefused: the source now lacks too many documents, though it had them at its first reading.
        """
        if reason := obstacle(read, rejects):
            return [reason]
        # Checked again, against the size before the run: a source may have changed since its first reading, and new
        # documents must not make room for more deletions.
        with self._points_of_gone(seen) as (file, _, refusal):
            if refusal:
                raise refusal
            file.seek(0)
            for batch in batched(map(json.loads, file), PAGE):
                self._store.delete(batch)
                self.deleted += len(batch)
        return []

    def compare(self, seen: SeenIds, read: int, rejects: Rejects) -> list[str]:
        """Count what `delete` would delete; returns a warning if it would delete nothing."""
        if reason := obstacle(read, rejects):
            return [reason]
        with self._points_of_gone(seen) as (file, _, refusal):
            file.seek(0)
            self.deleted = sum(1 for _ in file)
        return [f"the sync would be refused: {refusal.expected}"] if refusal else []

    @contextmanager
    def _points_of_gone(self, seen: SeenIds) -> Iterator[tuple[IO[str], Counter[str | None], SyncRefused | None]]:
        """The points to delete, in a file so that memory does not grow with them; documents by tenant; the refusal."""
        held, gone, free = Counter[str | None](), Counter[str | None](), self._store.layout.has_foreign_points
        self.examples = []
        with tempfile.TemporaryFile("w+", encoding="ascii", prefix="diptych-gone-") as file:
            for point, document, owner in self._store.documents(self._tenant):
                name = document_key(document, self._tenant, self._store.tenancy, self._store.layout)
                held[owner] += 1
                if seen.accounts_for(name, None if free else point):
                    continue
                file.write(json.dumps(point) + "\n")
                if not seen.accounts_for(name, None):
                    gone[owner] += 1
                    if len(self.examples) < EXAMPLES:
                        self.examples.append(document)
            yield file, held, self._refusal(gone, self._before or held)

    def _refusal(self, gone: Counter[str | None], before: Counter[str | None]) -> SyncRefused | None:
        """The error where more would go than `share` of the collection, or of a tenant's documents; else None."""
        parts = [(gone.total(), before.total(), self._where)]
        for tenant, own in gone.items():
            if tenant is not None:
                parts.append((own, before[tenant], f"{self._where}, documents of tenant {tenant!r}"))
        most = next((part for part in parts if part[0] > most_deleted(part[1], self._share)), None)
        if most is None:
            return None
        lost, held, where = most
        shown = ", ".join(repr(name if len(name) <= 60 else name[:59] + "…") for name in self.examples)
        error = SyncRefused(
            f"sync would delete {lost:,} of {held:,} documents, more than populate.max_deleted allows; it deleted none",
            where=where,
            got=f"not in the source: {shown}{', …' if gone.total() > len(self.examples) else ''}",
            expected=f"at most {most_deleted(held, self._share):,} of {held:,} deleted, max_deleted {self._share:g}",
            do="see that the source is the right one (diptych populate --dry-run --sync); to delete them all the same: "
            "--yes, in Python max_deleted=1",
            deleted=lost,
            held=held,
            max_deleted=self._share,
            examples=tuple(self.examples),
        )
        if lost == held:
            error.add_note("no id of the source is in the collection: is it read from the right column, --id-column?")
        return error


def obstacle(read: int, rejects: Rejects) -> str:
    """Why nothing may be deleted, "" if deletion is allowed: a deletion after a misreading cannot be undone."""
    if not read:
        return "nothing was deleted: the source is empty. To empty the collection, delete it."
    if rejects.unidentified:
        several, place = rejects.unidentified > 1, rejects.first_unidentified
        first = f" ({'the first: ' if several else ''}{place})" if place else ""
        entries = f"{rejects.unidentified:,} {'entries' if several else 'entry'} of the source{first}"
        return (
            f"nothing was deleted: {entries} {'have' if several else 'has'} no readable id, so it is unclear which "
            "documents are gone. Fix those entries and run again."
        )
    return ""


def share_of(max_deleted: float) -> float:
    """`max_deleted`, checked.

    Raises:
        PopulateError: it is not a number from 0 to 1.
    """
    if not isinstance(max_deleted, int | float) or isinstance(max_deleted, bool) or not 0 <= max_deleted <= 1:
        raise PopulateError(
            "max_deleted is not a share",
            got=brief(max_deleted),
            expected="a number from 0 to 1, such as 0.2; 1 allows all",
        )
    return max_deleted


def most_deleted(held: int, share: float) -> int:
    """How many of `held` documents a sync may delete if `share` is the limit.

    A single document may always go from a small collection, unless it is the last one or the share is 0.
    """
    if share >= 1:
        return held
    least = 1 if share > 0 and held > 1 else 0
    return max(least, int(Fraction(str(share)) * held))
