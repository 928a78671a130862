"""Collections of fakes for LangChain's objects, and coroutines as tests, without a plugin of pytest."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.encoders import Encoders
from named_server import emptied

if not os.environ.get("CI"):  # where a missing package is an error
    pytest.importorskip("langchain_qdrant")

Open: TypeAlias = Callable[..., Collection]
DENSE: Mapping[str, Any] = {"dense": {"adapter": "fake-dense"}}
BOTH: Mapping[str, Any] = {**DENSE, "lexical": {"adapter": "fake-sparse"}}


def pytest_configure(config: pytest.Config) -> None:
    """Know the marks of langchain-tests whose plugins are off: they are for tests of chat models."""
    for name in ("benchmark", "vcr"):
        config.addinivalue_line("markers", f"{name}: of langchain-tests")


def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine; LangChain's own come without a mark."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    needed = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in needed}))
    return True


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def opened(fakes: Registry) -> Iterator[Open]:
    """`opened(slots, store="memory:", search={})`: a collection that nobody has filled; `server` is the named one."""
    with ExitStack() as stack:

        def open_one(slots: Mapping[str, Any] = DENSE, store: str = "memory:", **sections: Any) -> Collection:
            place = stack.enter_context(emptied("c")) if store == "server" else {"store": store}
            config = parse_config({**place, "collection": "c", "slots": dict(slots), **sections})
            return stack.enter_context(Collection.open(config, registry=fakes))

        yield open_one


@pytest.fixture
def encoders(fakes: Registry) -> Encoders:
    """Encoders without a collection."""
    return Encoders.open(registry=fakes)
