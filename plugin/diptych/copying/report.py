"""The result of a copy."""

from __future__ import annotations

from dataclasses import dataclass


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
