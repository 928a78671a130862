"""Two tenants' documents in one collection, in every store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from diptych import Collection, Registry
from diptych.config import Config
from named_server import STORE, placed

SLOTS: dict[str, Any] = {
    "dense": {"adapter": "fake-dense", "dimension": 8},
    "short": {"adapter": "fake-dense", "dimension": 8, "storage": {"first_stage": {"dimension": 4}}},
    "lexical": {"adapter": "fake-sparse", "uses_idf": True},
    "late": {"adapter": "fake-multivector", "dimension": 8},
}
WORDS = ("red", "green", "blue", "pink", "grey")
TENANTS = ("a", "b", "c")
Open: TypeAlias = Callable[..., Collection]


def documents(*tenants: str) -> list[dict[str, Any]]:
    """Each tenant has documents of the same ids with other texts; `kind` is 0 or 1."""
    return [
        {
            "id": str(n),
            "text": f"{WORDS[n % 5]} {WORDS[(n + place) % 5]} of {tenant}",
            "customer": tenant,
            "kind": n % 2,
        }
        for place, tenant in enumerate(TENANTS)
        if not tenants or tenant in tenants
        for n in range(8)
    ]


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, fakes: Registry) -> Iterator[Open]:
    """Opens an empty collection with tenants."""
    folder: Path = tmp_path_factory.mktemp("tenants")
    numbers = itertools.count()
    with ExitStack() as stack:

        def make(registry: Registry = fakes, **parts: Any) -> Collection:
            name = f"c{next(numbers)}"
            place = stack.enter_context(placed(STORE, folder / name, name))
            given = {
                **place,
                "collection": name,
                "slots": SLOTS,
                "tenant": {"field": "customer"},
                **parts,
            }
            return stack.enter_context(Collection.open(Config.model_validate(given), registry=registry))

        yield make


@pytest.fixture(scope="module")
def filled(opened: Open, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The documents of all tenants. Tests only read it."""
    collection = opened()
    report = collection.populate(documents(), report_path=tmp_path_factory.mktemp("aside") / "aside.jsonl")
    assert (report.new, report.set_aside) == (24, 0)
    return collection


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
