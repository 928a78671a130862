"""`fit` and `best_map`: from pairs of vectors to a map with its measured quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diptych.errors import SwapError
from diptych.protocols import Similarity
from diptych.slots.drift_maps import Map, MapKind
from diptych.swap.drift.linear import procrustes, ridge
from diptych.swap.drift.pairs import Pairs, Split, checked_pairs, split
from diptych.swap.drift.quality import Quality, measure

# Releases up to 0.4.0 fitted an `mlp` too. It cost most and, measured, gained nothing: docs/decisions/0012. Those that
# collections keep are still read.
KINDS: tuple[MapKind, ...] = ("procrustes", "ridge")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A map and its quality; both are stored in the collection's metadata so that `status` can show them."""

    map: Map
    quality: Quality

    def to_json(self) -> dict[str, Any]:
        """JSON values; `load` reads the map back and ignores the rest."""
        return {**self.map.to_json(), "quality": self.quality.to_json()}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Fitted:
        """From what `to_json` gave.

        Raises:
            SwapError: another format, or damaged.
        """
        return cls(Map.from_json(raw), Quality.from_json(raw.get("quality") or {}))


def fit(
    new: Any,
    old: Any,
    *,
    kind: MapKind = "procrustes",
    new_similarity: Similarity = "cosine",
    old_similarity: Similarity = "cosine",
    queries: Any = None,
    seed: int = 0,
) -> Fitted:
    """Fit a map from the new encoder's space into the old one's, with its quality on held-out pairs.

    Args:
        new, old: vectors of the same documents by both encoders, float32 `[n, d_new]` and `[n, d_old]`.
        kind: `procrustes` or `ridge`.
        new_similarity, old_similarity: similarities of the two spaces.
        queries: new vectors of real queries, for the quality alone.
        seed: decides the split.

    Raises:
        SwapError: fewer than 50 pairs, other lengths, vectors that are zero or not finite, an unknown kind.
    """
    pairs = checked_pairs(new, old, new_similarity=new_similarity, old_similarity=old_similarity)
    parts = split(len(pairs), seed=seed)
    return _measured(_fitted(kind, pairs, parts), pairs, parts, queries)


def best_map(
    new: Any,
    old: Any,
    *,
    kinds: Sequence[MapKind] = KINDS,
    new_similarity: Similarity = "cosine",
    old_similarity: Similarity = "cosine",
    queries: Any = None,
    seed: int = 0,
) -> Fitted:
    """Fit one map of each kind and return the one whose answers are most like those of a full re-encode.

    That is what the back-fill leads to; the kind that imitates the old encoder best is often another, and answers less
    like the new one. Measured by `queries` if given, else by held-out documents. `overlap` is slightly too good, since
    the winner was chosen on the same pairs.

    Raises:
        SwapError: as `fit`.
    """
    pairs = checked_pairs(new, old, new_similarity=new_similarity, old_similarity=old_similarity)
    parts = split(len(pairs), seed=seed)
    fits = [_measured(_fitted(kind, pairs, parts), pairs, parts, queries) for kind in kinds]
    return max(fits, key=lambda one: (one.quality.query_overlap or 0.0, one.quality.overlap))


def _fitted(kind: MapKind, pairs: Pairs, parts: Split) -> Map:
    train, tune = pairs.of(parts.train), pairs.of(parts.tune)
    if kind == "procrustes":
        return procrustes(train, tune).stored()
    if kind == "ridge":
        return ridge(train, tune).stored()
    raise SwapError("unknown kind of drift map", got=repr(kind), expected=", ".join(KINDS))


def _measured(chosen: Map, pairs: Pairs, parts: Split, queries: Any) -> Fitted:
    return Fitted(chosen, measure(chosen, pairs, parts.held_out, queries=queries))
