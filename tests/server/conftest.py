"""A Qdrant server to be killed. These tests run by hand: DIPTYCH_TEST_SERVER_BINARY names the server's binary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qdrant_process import BINARY, QdrantProcess


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[QdrantProcess]:
    """A server with an empty folder."""
    if not BINARY:
        pytest.skip("no Qdrant server to kill: set DIPTYCH_TEST_SERVER_BINARY to its binary")
    monkeypatch.setenv("DIPTYCH_CACHE", "off")
    monkeypatch.chdir(tmp_path)
    process = QdrantProcess(tmp_path / "qdrant")
    process.start()
    yield process
    process.kill()
