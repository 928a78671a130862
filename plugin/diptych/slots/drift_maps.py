"""`Map`: carries vectors of one embedding space into another. Kept with the collection as JSON, never as a pickle."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from diptych.errors import SwapError
from diptych.types import Floats, SparseVector

MapKind: TypeAlias = Literal["procrustes", "ridge", "mlp"]
FORMAT = 1


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """The residual that a multilayer perceptron adds: `relu(x @ inner + bias) @ outer`.

    Args:
        inner: float32 `[d_new, hidden]`.
        bias: float32 `[hidden]`.
        outer: float32 `[hidden, d_old]`.
    """

    inner: Floats
    bias: Floats
    outer: Floats

    def apply(self, rows: Floats) -> Floats:
        """What is added for `rows` `[n, d_new]`: float32 `[n, d_old]`."""
        return np.asarray(np.maximum(rows @ self.inner + self.bias, 0) @ self.outer, np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """Maps vectors of the new encoder into the old one's space: `x @ weight + bias`, and a residual for an `mlp`.

    Args:
        kind: how it was fitted.
        weight: float32 `[d_new, d_old]`.
        bias: float32 `[d_old]`.
        residual: of an `mlp`.
        unit_new: the new space compares by cosine, so rows are made unit length before.
        unit_old: the old space compares by cosine, so rows are made unit length after.
    """

    kind: MapKind
    weight: Floats
    bias: Floats
    residual: Residual | None = None
    unit_new: bool = True
    unit_old: bool = True

    def apply(self, vectors: Floats) -> Floats:
        """Vectors `[n, d_new]` as float32 `[n, d_old]`; rows of zeros or not finite stay so, for others to judge.

        Raises:
            SwapError: they have another dimension.
        """
        rows = table(vectors, "vectors to map", dimension=len(self.weight))
        with np.errstate(invalid="ignore"):
            inputs = unit(rows) if self.unit_new else rows
            mapped = inputs @ self.weight + self.bias
            if self.residual is not None:
                mapped += self.residual.apply(inputs)
            mapped[~rows.any(axis=1)] = 0
            mapped[~np.isfinite(rows).all(axis=1)] = np.nan
            return unit(mapped) if self.unit_old else mapped

    def to_json(self) -> dict[str, Any]:
        """JSON values: float16 as base64, about 2.7 bytes a number."""
        packed = {name: _packed(array) for name, array in self._arrays().items()}
        facts = {"kind": self.kind, "unit_new": self.unit_new, "unit_old": self.unit_old}
        return {"format": FORMAT, **facts, "arrays": packed}

    def stored(self) -> Map:
        """This map after `to_json` and `from_json`, so that the measured map is the one that serves."""
        return Map.from_json(self.to_json())

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Map:
        """The map from the result of `to_json`; other keys are ignored.

        Raises:
            SwapError: another format, or damaged.
        """
        if raw.get("format") != FORMAT:
            raise SwapError(
                "the drift map has another format",
                got=repr(raw.get("format")),
                expected=str(FORMAT),
                do="use the release of diptych that wrote it, or fit it again",
            )
        try:
            arrays = {name: _unpacked(packed) for name, packed in raw["arrays"].items()}
            linear_map = cls(raw["kind"], arrays["weight"], arrays["bias"], None, raw["unit_new"], raw["unit_old"])
            names = ("inner", "inner_bias", "outer")
            residual = Residual(*(arrays[name] for name in names)) if "inner" in arrays else None
            return replace(linear_map, residual=residual)._consistent()
        except (KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
            raise SwapError("the drift map is damaged", got=repr(error)[:200], do="fit it again") from error

    def _arrays(self) -> dict[str, Floats]:
        arrays = {"weight": self.weight, "bias": self.bias}
        if self.residual is not None:
            arrays |= {"inner": self.residual.inner, "inner_bias": self.residual.bias, "outer": self.residual.outer}
        return arrays

    def _consistent(self) -> Map:
        """This map, after one row was passed through it as a check.

        Raises:
            ValueError: its parts do not go together.
        """
        shapes = [array.shape for array in self._arrays().values()]
        finite = all(np.isfinite(array).all() for array in self._arrays().values())
        if self.kind not in get_args(MapKind) or self.bias.shape != self.weight.shape[1:] or not finite:
            raise ValueError(f"kind {self.kind!r}, shapes {shapes}, finite: {finite}")
        self.apply(np.ones((1, len(self.weight)), np.float32))
        return self


def load(raw: Mapping[str, Any]) -> Map:
    """The map stored in a collection's metadata; see `Map.from_json`."""
    return Map.from_json(raw)


def unit(rows: Floats) -> Floats:
    """Rows scaled to length 1; zero rows stay zero."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def table(vectors: Any, what: str, *, dimension: int | None = None) -> Floats:
    """The vectors as float32 `[n, d]`.

    Raises:
        SwapError: they are no table, or have another dimension.
    """
    rows = np.asarray(vectors, np.float32)
    if rows.ndim != 2 or (dimension is not None and rows.shape[1] != dimension):
        raise SwapError(f"{what} have another shape", got=rows.shape, expected=f"[n, {dimension or 'dimension'}]")
    return rows


def checked_rows(vectors: Any, what: str, *, dimension: int | None = None) -> Floats:
    """The vectors as float32 `[n, d]`, all finite.

    Raises:
        SwapError: they are no table of finite numbers, or have another dimension.
    """
    rows = table(vectors, what, dimension=dimension)
    bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(bad):
        raise SwapError(f"{what} hold numbers that are not finite", got=f"{len(bad)} rows, first row {bad[0]}")
    return rows


def mapped(drift: Map | None, vectors: list[Floats | SparseVector]) -> list[Floats | SparseVector]:
    """Dense vectors after the map, or unchanged without one."""
    if drift is None or not vectors:
        return vectors
    return list(drift.apply(np.stack([vector for vector in vectors if not isinstance(vector, SparseVector)])))


def _packed(array: Floats) -> dict[str, Any]:
    """The array as float16 over its largest absolute value, so that nothing overflows."""
    scale = float(np.abs(array).max(initial=0)) or 1.0
    return {
        "shape": list(array.shape),
        "scale": scale,
        "float16": base64.b64encode((array / scale).astype("<f2").tobytes()).decode(),
    }


def _unpacked(packed: Mapping[str, Any]) -> Floats:
    numbers = np.frombuffer(base64.b64decode(packed["float16"], validate=True), "<f2").astype(np.float32)
    return numbers.reshape(packed["shape"]) * np.float32(packed["scale"])
