"""What a training wrote for TensorBoard, read without TensorBoard."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path


def curves(folder: Path) -> dict[str, dict[int, float]]:
    """The value at each step of each curve in a folder's files."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, dict[int, float]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for record in _records(file.read_bytes()):
            event = Event.FromString(record)
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def _records(raw: bytes) -> Iterator[bytes]:
    """Each is its length (8 bytes), a checksum of it (4), itself, and a checksum (4)."""
    at = 0
    while at < len(raw):
        (length,) = struct.unpack_from("<Q", raw, at)
        yield raw[at + 12 : at + 12 + length]
        at += 16 + length
