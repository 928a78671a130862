"""A Qdrant server to be killed. These tests run by hand: DIPTYCH_TEST_SERVER_BINARY names the server's binary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qdrant_process import BINARY, QdrantProcess


@pytest.fixture(autouse=True)
def _binary_and_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not BINARY:
        pytest.skip("no Qdrant server to kill: set DIPTYCH_TEST_SERVER_BINARY to its binary")
    monkeypatch.setenv("DIPTYCH_CACHE", "off")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[QdrantProcess]:
    """A server with an empty folder."""
    process = QdrantProcess(tmp_path / "qdrant")
    process.start()
    yield process
    process.kill()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[QdrantProcess]]:
    """Three nodes, the first of which has begun the cluster."""
    first = QdrantProcess(tmp_path / "0", "")
    found = [first, *(QdrantProcess(tmp_path / str(n), first.peer_url) for n in (1, 2))]
    for node in found:
        node.start()
    yield found
    for node in found:
        node.kill()
