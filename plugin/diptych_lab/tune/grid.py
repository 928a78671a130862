"""`grid`: the settings for dense vectors and their search that are worth measuring."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from diptych.config.models import SearchParams, Stored, VectorStorage

SHORTEST = 32  # numbers of a first stage that is tried unasked
_QUANTIZED: tuple[tuple[dict[str, Any], tuple[float, ...]], ...] = (
    ({"kind": "scalar"}, (1, 2)),
    ({"kind": "turbo", "bits": "bits4"}, (1, 2)),
    ({"kind": "turbo", "bits": "bits2"}, (2, 4)),
    ({"kind": "binary", "encoding": "two_bits"}, (4, 8)),
    ({"kind": "binary", "encoding": "one_bit"}, (4, 8)),
    ({"kind": "product", "compression": "x16"}, (4,)),
)
_GRAPHS: tuple[tuple[int, int, tuple[int, ...]], ...] = (
    (8, 100, (64, 128)),
    (16, 100, (32, 64, 128)),
    (32, 200, (128,)),
)  # m, ef_construct and hnsw_ef


@dataclass(frozen=True, slots=True)
class Setup:
    """One way to store and search a slot's vectors, in the config's terms.

    Args:
        now: whether the collection has it already.
    """

    storage: VectorStorage
    params: SearchParams = field(default_factory=SearchParams)
    now: bool = False

    @property
    def stored(self) -> str:
        """How the vectors are stored: `float32, m 16`, `turbo bits2`, `first 96`."""
        storage, first = self.storage, self.storage.first_stage
        parts = [f"first {first.dimension} x{first.oversampling:g}"] if first else []
        for section in (first, storage) if first else (storage,):
            if section.quantization:
                quantization = section.quantization
                compression = quantization.compression if quantization.kind == "product" else None
                size = compression or quantization.encoding or quantization.bits
                parts.append(f"{quantization.kind} {size}" if size else quantization.kind)
            if section.hnsw and section.hnsw.m is not None:
                parts.append(f"m {section.hnsw.m}")
        if not (first or storage.quantization):
            parts.insert(0, storage.datatype or "float32")
        return ", ".join([*parts, *(["on disk"] if storage.on_disk and not (first or storage.quantization) else [])])

    @property
    def asked(self) -> str:
        """How they are searched: `ef 128`, `rescore x4`."""
        params, parts = self.params, []
        if params.hnsw_ef:
            parts.append(f"ef {params.hnsw_ef}")
        if params.rescore is not None or params.oversampling is not None:
            parts.append("no rescore" if params.rescore is False else f"rescore x{params.oversampling or 1:g}")
        return ", ".join([*parts, *(["exact"] if params.exact else [])]) or "default"

    def config(self, slot: str) -> dict[str, Any]:
        """The sections of a config file for it, without empty ones."""
        storage, params = (
            part.model_dump(mode="json", exclude_none=True, exclude_unset=True) for part in (self.storage, self.params)
        )
        slots = {"slots": {slot: {"storage": storage}}} if storage else {}
        return {**slots, **({"search": {"params": params}} if params else {})}


def of_bits() -> list[Setup]:
    """A setup for 32, 16, 8, 4, 2 bits a number and 1, searched by these alone or rescored by the originals."""
    copies = [setup for setup in _quantized() if setup.storage.quantization and _bits(setup.storage) in (8, 4, 2, 1)]
    kinds = [setup for setup in copies if (setup.stored.partition(" ")[0], _bits(setup.storage)) != ("binary", 2)]
    return [Setup(_storage()), Setup(_storage(datatype="float16")), *kinds]


def bytes_read(storage: VectorStorage, width: int) -> int:
    """Bytes of the numbers of a vector of this width that a search compares; those that only rescore do not count."""
    first = storage.first_stage
    return round((first.dimension if first else width) * _bits(first or storage) / 8)


def _bits(stored: Stored) -> float:
    """Bits a number, as quantized or else as stored."""
    quantization = stored.quantization
    if quantization is None:
        return {"float32": 32, "float16": 16, "uint8": 8}[stored.datatype or "float32"]
    if quantization.kind == "product":
        return 32 / int(quantization.compression[1:])
    binary = {"one_bit": 1, "one_and_half_bits": 1.5, "two_bits": 2}[quantization.encoding or "one_bit"]
    turbo = {"bits1": 1, "bits1_5": 1.5, "bits2": 2, "bits4": 4}[quantization.bits or "bits4"]
    return {"scalar": 8, "binary": binary, "turbo": turbo}[quantization.kind]


def grid(dimension: int, *, whole_numbers: bool = False, prefixes: Sequence[int] | None = None) -> list[Setup]:
    """About 25 setups: graphs, number formats, every kind of quantization, first stages.

    Quantized copies and first stages lie in memory, their originals on disk: that is what one has them for.

    Args:
        dimension: of the vectors.
        whole_numbers: whether a byte can hold each number of them.
        prefixes: dimensions of first stages; a half and a quarter of the vectors unless given.
    """
    setups = [*_graphs(), Setup(_storage(datatype="float16"))]
    if whole_numbers:
        setups.append(Setup(_storage(datatype="uint8")))
    chosen = [n for n in (dimension // 2, dimension // 4) if n >= SHORTEST] if prefixes is None else prefixes
    return [*setups, *_quantized(), *_first_stages(chosen)]


def _graphs() -> Iterator[Setup]:
    for m, construct, widths in _GRAPHS:
        hnsw = {"m": m, "ef_construct": construct}
        yield from (Setup(_storage(hnsw=hnsw), SearchParams(hnsw_ef=ef)) for ef in widths)


def _quantized() -> Iterator[Setup]:
    for quantization, factors in _QUANTIZED:
        storage = _storage(quantization={**quantization, "always_ram": True}, on_disk=True)
        if quantization["kind"] in ("scalar", "turbo"):
            yield Setup(storage, SearchParams(rescore=False))
        yield from (Setup(storage, SearchParams(rescore=True, oversampling=factor)) for factor in factors)


def _first_stages(dimensions: Iterable[int]) -> Iterator[Setup]:
    for dimension in dimensions:
        for oversampling in (1, 4):
            yield Setup(_storage(first_stage={"dimension": dimension, "oversampling": oversampling}, on_disk=True))


def _storage(**settings: Any) -> VectorStorage:
    return VectorStorage.model_validate(settings)
