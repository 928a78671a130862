"""Compares points of source and target, within the precision that the vectors' datatype allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych.copying.points import arrays, vectors_of

NORMALIZED = 1e-6  # of a vector's length: what normalising a second time may change in float32
# Of a vector's length: what a lossy datatype may change in float32, and in what was read from it. Measured with Edge
# 0.9 on 8 and 64 dimensions: 0.16, 0.009 and 0.0005 at most; then 0.031 for turbo4, nothing for the others.
_TURBO = {
    models.Datatype.TURBO4: (0.25, 0.1),
    models.Datatype.TURBO8: (0.03, 0.002),
    models.Datatype.TURBO16: (0.003, 0.0002),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between two points: where, and how."""

    point: int | str
    what: str

    def __str__(self) -> str:
        return f"point {self.point}: {self.what}"


@dataclass(frozen=True, slots=True)
class Rule:
    """How close a vector in the target must be to the source's, given datatype and normalisation.

    Args:
        datatype: in which the vector is kept.
        tolerance: allowed distance, as a share of the vector's length.
        normalized: whether the target makes it of length 1; local mode gives back what it read from disk as it was.
    """

    datatype: models.Datatype | None = None
    tolerance: float = 0.0
    normalized: bool = False

    @classmethod
    def of(cls, params: models.VectorParams, *, kept: bool = True) -> Rule:
        """The rule for a dense vector or multi-vector: equality, except for the effects of cosine and lossy datatypes.

        Args:
            kept: whether the source keeps the datatype itself, which local mode does not.
        """
        datatype = params.datatype
        if datatype in _TURBO:
            return cls(datatype, _TURBO[datatype][kept])
        if params.distance != models.Distance.COSINE or datatype == models.Datatype.UINT8:
            return cls(datatype)
        return cls(datatype, 2.0**-9 if datatype == models.Datatype.FLOAT16 else NORMALIZED, normalized=not kept)

    def difference(self, source: Any, target: Any) -> str:
        """How the target's vector differs; empty when it does not."""
        ours, theirs = arrays(source), arrays(target)
        shapes = [[part.shape for part in side] for side in (ours, theirs)]
        if shapes[0] != shapes[1]:
            return f"{_shape(ours)} in the source, {_shape(theirs)} in the target"
        if len(ours) == 2 and not np.array_equal(ours[0], theirs[0]):
            return "its terms differ"
        return self._apart(self._kept(ours[-1]), theirs[-1])

    def _kept(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vector as a store of this datatype returns it."""
        if self.normalized:
            length = np.linalg.norm(vector, axis=-1, keepdims=True)
            vector = np.divide(vector, length, out=vector.copy(), where=length > 0)
        if self.datatype == models.Datatype.UINT8:
            return np.trunc(np.clip(vector, 0, 255))
        if self.datatype == models.Datatype.FLOAT16:
            return vector.astype(np.float16).astype(np.float32)
        return vector

    def _apart(self, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> str:
        if np.array_equal(ours, theirs):
            return ""
        wide = ours.astype(np.float64), theirs.astype(np.float64)
        length = float(np.linalg.norm(wide[0])) or 1.0
        share = float(np.linalg.norm(wide[1] - wide[0])) / length
        return "" if share <= self.tolerance else f"apart by {share:.3g} of its length, {self.tolerance:.3g} is allowed"


def rules_of(params: models.CollectionParams, *, kept: bool = True) -> dict[str, Rule]:
    """The rules for a collection's vectors. Sparse vectors are stored exactly, whatever the datatype of their index."""
    dense: Any = params.vectors or {}
    named = {"": dense} if isinstance(dense, models.VectorParams) else dense
    rules = {name: Rule.of(own, kept=kept) for name, own in named.items()}
    return rules | {name: Rule() for name in params.sparse_vectors or {}}


def difference(source: models.Record, target: models.Record | None, rules: Mapping[str, Rule]) -> str:
    """How the target's point differs from the source's; empty when it does not."""
    if target is None:
        return "not in the target"
    if not same(source.payload or {}, target.payload or {}):
        return _payload_difference(source.payload or {}, target.payload or {})
    ours, theirs = vectors_of(source), vectors_of(target)
    for name in sorted({*ours, *theirs}):
        if (name in ours) != (name in theirs):
            return f"vector {name!r}: only in the {'source' if name in ours else 'target'}"
        if found := rules.get(name, Rule()).difference(ours[name], theirs[name]):
            return f"vector {name!r}: {found}"
    return ""


def same(ours: Any, theirs: Any) -> bool:
    """Whether two JSON values are equal; unlike in Python, true is not 1."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        return ours.keys() == theirs.keys() and all(same(value, theirs[key]) for key, value in ours.items())
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    return isinstance(ours, bool) == isinstance(theirs, bool) and bool(ours == theirs)


def _payload_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    keys = [key for key in sorted({*ours, *theirs}) if key not in ours or key not in theirs]
    keys += [key for key in sorted(ours.keys() & theirs.keys()) if not same(ours[key], theirs[key])]
    return f"payload, {', '.join(map(repr, keys[:3]))}"


def _shape(parts: tuple[NDArray[Any], ...]) -> str:
    if len(parts) == 2:
        return f"{len(parts[0])} terms"
    return " x ".join(map(str, parts[0].shape)) + " numbers"
