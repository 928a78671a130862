"""Copies what can be read of a damaged shard into a new one: `python -m diptych_edge.health.salvage REQUEST`.

It runs in a separate process, because reading damaged files may crash it: Edge panics, or the system sends a signal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from diptych.runtime.panics import is_panic
from diptych_edge.convert.config import PLACEHOLDER, edge_config, has_vectors, index_infos, index_schema
from diptych_edge.engine.folders import Record

PAGE = 256  # points read at once
LISTED = 1000  # unreadable points that are named


def main(request: str) -> int:
    """Carry out the request, and print the result as JSON."""
    options = json.loads(request)
    record = Record.read(Path(options["collection"]))
    target = _target(Path(options["target"]), record)
    source = edge.EdgeShard.load(options["source"]) if options["source"] else target  # without a source an empty one
    unreadable: list[int | str] = []
    read_count = 0
    for name, info in index_infos(source.info().payload_schema).items():
        target.update(edge.UpdateOperation.create_field_index(name, index_schema(info.params or info.data_type)))
    for ids in _pages(source):
        records = list(_readable(source, ids, unreadable))
        read_count += len(records)
        if records:
            points = [edge.Point(point.id, point.vector or {}, point.payload or {}) for point in records]
            target.update(edge.UpdateOperation.upsert_points(points))
    target.flush()
    count = target.info().points_count
    target.close()
    sys.stdout.write(
        json.dumps({"read": read_count, "points": count, "lost": unreadable[:LISTED], "lost_count": len(unreadable)})
        + "\n"
    )
    return 0


def _target(folder: Path, record: Record) -> Any:
    if (folder / "edge_config.json").exists():
        return edge.EdgeShard.load(str(folder))
    folder.mkdir(exist_ok=True)
    edge_shard = edge.EdgeShard.create(str(folder), edge_config(record.config))
    if not has_vectors(record.config):
        edge_shard.update(edge.UpdateOperation.delete_vector_name(PLACEHOLDER))
    return edge_shard


def _pages(source: Any) -> Iterator[list[Any]]:
    offset = None
    while True:
        request = edge.ScrollRequest(offset=offset, limit=PAGE, with_payload=False, with_vector=False)
        records, offset = source.scroll(request)
        if records:
            yield [record.id for record in records]
        if offset is None:
            return


def _readable(source: Any, ids: list[Any], unreadable: list[int | str]) -> Iterator[Any]:
    """The points of these ids; if that fails, read them one by one and note the unreadable ones."""
    try:
        yield from source.retrieve(ids, True, True)
        return
    except BaseException as error:
        if not (isinstance(error, Exception) or is_panic(error)):
            raise
    for identifier in ids:
        try:
            yield from source.retrieve([identifier], True, True)
        except BaseException as error:
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
            unreadable.append(identifier if isinstance(identifier, int) else str(identifier))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
