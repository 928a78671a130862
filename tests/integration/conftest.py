"""What the integration tests share: a small server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from small_server import Routes, served


@pytest.fixture(autouse=True)
def _no_wait_for_flushes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small server says how often it flushes: without a pause, unless a test asks for one."""
    monkeypatch.setattr("diptych.stores.retired_vectors.LEAST_INTERVAL", 0.0)


@pytest.fixture
def small_server() -> Iterator[Callable[..., Routes]]:
    """`small_server(names=True).url`: a server that is up until the test ends."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(served(Routes(**options)))
