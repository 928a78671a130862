"""Finds storage settings that would have no effect, and slot names that cannot be used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from diptych.config.problems import Problem
from diptych.config.source import Location
from diptych.protocols import Kind

if TYPE_CHECKING:
    from diptych.config.models import Config, Stored, VectorStorage

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")
_RESERVED = ("rrf", "dbsf", "linear")  # what tables of results call a fusion
_OF_KIND = {"scalar": {"quantile"}, "binary": {"encoding"}, "product": {"compression"}, "turbo": {"bits"}}
_NOT_FOR: dict[Kind, tuple[str, ...]] = {
    "multivector": ("first_stage",),
    "sparse": ("hnsw", "quantization", "first_stage"),
    "text_index": ("hnsw", "quantization", "on_disk", "datatype", "first_stage"),
}


def slot_problems(config: Config) -> list[Problem]:
    """Slot names that Qdrant or the tables cannot take, and quantization options of another kind."""
    found = [problem for name in config.slots for problem in _name(name)]
    for name, slot in config.slots.items():
        at: Location = ("slots", name, "storage")
        found += _quantization(slot.storage, at)
        if slot.storage.first_stage:
            found += _quantization(slot.storage.first_stage, (*at, "first_stage"))
    return found


def storage_problems(kind: Kind, storage: VectorStorage, at: Location) -> Iterator[Problem]:
    """Settings that vectors of this kind do not have."""
    for key in _NOT_FOR.get(kind, ()):
        if key in storage.model_fields_set and getattr(storage, key) is not None:
            yield Problem((*at, "storage", key), f"a slot of kind {kind} has no {key}", do="leave it out")


def _name(name: str) -> Iterator[Problem]:
    if not _NAME.fullmatch(name):
        expected = "a letter, then letters, digits, - and _, at most 63 in all"
        yield Problem(("slots", name), "a slot's name cannot be used", got=repr(name), expected=expected)
    elif name in _RESERVED:
        yield Problem(
            ("slots", name), f"a slot cannot be called {name!r}", do="that is the name of a fusion; rename it"
        )


def _quantization(stored: Stored, at: Location) -> Iterator[Problem]:
    asked = stored.quantization
    if asked is None:
        return
    others = {key for kind, keys in _OF_KIND.items() if kind != asked.kind for key in keys}
    for key in sorted(others & asked.model_fields_set):
        own = ", ".join(sorted(_OF_KIND[asked.kind]))
        what = f"{asked.kind} quantization has no option {key!r}"
        yield Problem((*at, "quantization", key), what, expected=f"{own}, always_ram")
