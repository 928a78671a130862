"""Compares points of source and target, within the precision that the vectors' datatype allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qdrant_client import models

from diptych.copying.side import arrays, vectors_of

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
    def of(cls, params: models.VectorParams, *, keeps_datatype: bool = True) -> Rule:
        """The rule for a dense vector or multi-vector: equality, except for the effects of cosine and lossy datatypes.

        Args:
            kept: whether the source keeps the datatype itself, which local mode does not.
        """
        datatype = params.datatype
        if datatype in _TURBO:
            return cls(datatype, _TURBO[datatype][keeps_datatype])
        if params.distance != models.Distance.COSINE or datatype == models.Datatype.UINT8:
            return cls(datatype)
        return cls(
            datatype, 2.0**-9 if datatype == models.Datatype.FLOAT16 else NORMALIZED, normalized=not keeps_datatype
        )

    def difference(self, source: Any, target: Any) -> str:
        """How the target's vector differs; empty when it does not."""
        source_parts, target_parts = arrays(source), arrays(target)
        shapes = [[part.shape for part in side] for side in (source_parts, target_parts)]
        if shapes[0] != shapes[1]:
            return f"{_shape(source_parts)} in the source, {_shape(target_parts)} in the target"
        if len(source_parts) == 2 and not np.array_equal(source_parts[0], target_parts[0]):
            return "its terms differ"
        return self._distance(self._stored(source_parts[-1]), target_parts[-1])

    def _stored(self, vector: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vector as a store of this datatype returns it."""
        if self.normalized:
            length = np.linalg.norm(vector, axis=-1, keepdims=True)
            vector = np.divide(vector, length, out=vector.copy(), where=length > 0)
        if self.datatype == models.Datatype.UINT8:
            return np.trunc(np.clip(vector, 0, 255))
        if self.datatype == models.Datatype.FLOAT16:
            return vector.astype(np.float16).astype(np.float32)
        return vector

    def _distance(self, source: NDArray[np.float32], target: NDArray[np.float32]) -> str:
        if np.array_equal(source, target):
            return ""
        wide = source.astype(np.float64), target.astype(np.float64)
        length = float(np.linalg.norm(wide[0])) or 1.0
        share = float(np.linalg.norm(wide[1] - wide[0])) / length
        return "" if share <= self.tolerance else f"apart by {share:.3g} of its length, {self.tolerance:.3g} is allowed"


def rules_of(params: models.CollectionParams, *, keeps_datatype: bool = True) -> dict[str, Rule]:
    """The rules for a collection's vectors. Sparse vectors are stored exactly, whatever the datatype of their index."""
    dense: Any = params.vectors or {}
    by_name = {"": dense} if isinstance(dense, models.VectorParams) else dense
    rules = {name: Rule.of(vector_params, keeps_datatype=keeps_datatype) for name, vector_params in by_name.items()}
    return rules | {name: Rule() for name in params.sparse_vectors or {}}


def difference(source: models.Record, target: models.Record | None, rules: Mapping[str, Rule]) -> str:
    """How the target's point differs from the source's; empty when it does not."""
    if target is None:
        return "not in the target"
    if not same(source.payload or {}, target.payload or {}):
        return _payload_difference(source.payload or {}, target.payload or {})
    source_vectors, target_vectors = vectors_of(source), vectors_of(target)
    for name in sorted({*source_vectors, *target_vectors}):
        if (name in source_vectors) != (name in target_vectors):
            return f"vector {name!r}: only in the {'source' if name in source_vectors else 'target'}"
        if what := rules.get(name, Rule()).difference(source_vectors[name], target_vectors[name]):
            return f"vector {name!r}: {what}"
    return ""


def same(source: Any, target: Any) -> bool:
    """Whether two JSON values are equal; unlike in Python, true is not 1."""
    if isinstance(source, Mapping) and isinstance(target, Mapping):
        return source.keys() == target.keys() and all(same(value, target[key]) for key, value in source.items())
    if isinstance(source, list) and isinstance(target, list):
        return len(source) == len(target) and all(map(same, source, target))
    return isinstance(source, bool) == isinstance(target, bool) and bool(source == target)


def _payload_difference(source: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    keys = [key for key in sorted({*source, *target}) if key not in source or key not in target]
    keys += [key for key in sorted(source.keys() & target.keys()) if not same(source[key], target[key])]
    return f"payload, {', '.join(map(repr, keys[:3]))}"


def _shape(parts: tuple[NDArray[Any], ...]) -> str:
    if len(parts) == 2:
        return f"{len(parts[0])} terms"
    return " x ".join(map(str, parts[0].shape)) + " numbers"
