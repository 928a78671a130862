"""Collections of the fakes for Haystack's components, and coroutines run as tests."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diptych import Collection, Registry
from diptych.testing import fakes_plugin
from named_server import STORE, placed

SLOTS = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-calibrated", "uses_idf": True}}


def pytest_configure(config: pytest.Config) -> None:
    """Haystack's own tests carry the mark of a plugin that is not needed."""
    config.addinivalue_line("markers", "asyncio: a coroutine, run to its end")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


def config(store: str | dict[str, Any], **more: Any) -> dict[str, Any]:
    place = {"store": store} if isinstance(store, str) else store
    return {**place, "collection": "things", "slots": SLOTS, "cache": {"enabled": False}, **more}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[str | dict[str, Any]]:
    """Where the store is, as `config` takes it."""
    with placed(STORE, tmp_path / "qdrant", "things") as settings:
        yield settings


@pytest.fixture
def things(place: str | dict[str, Any]) -> Iterator[Collection]:
    """An empty collection, dense and lexical, in memory, in Qdrant Edge and on the named server."""
    with Collection.open(config(place), registry=Registry(fakes_plugin)) as collection:
        yield collection


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports of set-aside documents are written into the working folder."""
    monkeypatch.chdir(tmp_path)
