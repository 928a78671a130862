"""Populates through clients of their own that find no collection, and one of which makes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diptych import Collection
from shared_process import REGISTRY, configured


def test_a_populate_goes_on_where_another_made_the_collection_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = configured(f"edge:{tmp_path}/store", 0)
    with (
        Collection.open(config, registry=REGISTRY) as faster,
        Collection.open(config, registry=REGISTRY) as slower,
    ):

        def documents() -> Iterator[Any]:
            """While the one reads its source, the other has made the collection."""
            faster.populate([{"id": "1", "text": "one"}])
            yield {"id": "2", "text": "two"}

        assert slower.populate(documents()).new == 1
        assert {hit.id for hit in faster.search("one two")} == {"1", "2"}
        assert slower.handle.metadata == faster.handle.metadata
