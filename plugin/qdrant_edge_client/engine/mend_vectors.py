"""Repairs what a kill leaves in Edge's files while a named vector is added or dropped.

Edge changes its segments one after another and its own config last, and does not open a collection whose segments and
config name different vectors. The vector in question holds nothing yet, or nothing that is wanted any more, so it is
taken out of all of them; then the change can be done again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qdrant_edge_client.engine import shard as shards
from qdrant_edge_client.engine.sidecar import replace_file
from qdrant_edge_client.errors import StoreError

_SEGMENT, _CONFIG = "segment.json", "edge_config.json"


def load_mended(folder: Path, vector: str) -> Any:
    """Open the EdgeShard in `folder`, in which adding or dropping `vector` may be unfinished.

    Raises:
        StoreError: it cannot be opened for another reason.
    """
    try:
        return shards.load(folder)
    except StoreError:
        for path in [*folder.glob(f"segments/*/{_SEGMENT}"), folder / _CONFIG]:
            _edit(path, lambda content: _without(content, vector))
        for kind in ("vector_storage", "vector_index"):
            for leftover in folder.glob(f"segments/*/{kind}-*"):
                if leftover.name == f"{kind}-{vector}":
                    shutil.rmtree(leftover)
        return shards.load(folder)


def _edit(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # another kind of damage, which opening reports
    if not isinstance(content, dict):
        return
    replace_file(path, json.dumps(change(content), ensure_ascii=False))


def _without(config: dict[str, Any], vector: str) -> dict[str, Any]:
    """A segment's or the collection's config without the vector."""
    lists = ("vector_data", "sparse_vector_data", "vectors", "sparse_vectors")
    return {
        key: {name: params for name, params in value.items() if name != vector}
        if key in lists and isinstance(value, dict)
        else (_without(value, vector) if key == "config" and isinstance(value, dict) else value)
        for key, value in config.items()
    }
