"""`Engine`: who encodes and writes the pieces that populate has found to be new or changed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from diptych.handle.collection_handle import CollectionHandle
from diptych.populate.encode import Outcome
from diptych.populate.pipeline import Deliver, Pipeline
from diptych.populate.validate import Item
from diptych.populate.write_targets import Targets

Piece = list[Item]


@dataclass(frozen=True, slots=True)
class Written:
    """What became of pieces that somebody else has written: counts, and documents set aside as id, position, reason."""

    new: int = 0
    changed: int = 0
    encoded: Mapping[str, int] = field(default_factory=dict)
    hits: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[tuple[str, int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """A piece that somebody else has encoded: outcomes by vector, and how many came from a cache there."""

    outcomes: Mapping[str, list[Outcome]]
    hits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Work:
    """One populate, as its engine sees it.

    Args:
        handle: the collection, which exists.
        targets: the slots to write; their encoders are loaded.
        room: pieces that may be encoded and not yet acknowledged.
        deliver: writes a piece with its outcomes; to be called in one thread.
        hits: notes what came from a cache elsewhere.
        written: notes what was written elsewhere.
        stopped: set when the run is given up.
    """

    handle: CollectionHandle
    targets: Targets
    room: int
    deliver: Deliver
    hits: Callable[[Mapping[str, int]], None]
    written: Callable[[Written], None]
    stopped: threading.Event


class Engine(Protocol):
    """Has every piece encoded for each of the targets, and written."""

    def run(self, pieces: Iterator[Piece], work: Work) -> None:
        """Return when all of them are acknowledged.

        Raises:
            DiptychError: store or encoder failed for good.
        """
        ...


class Threads:
    """The usual engine: in this process, a thread for each slot and one that writes."""

    def run(self, pieces: Iterator[Piece], work: Work) -> None:
        """Through a `Pipeline`."""
        encoders = lambda: work.targets.encoders  # noqa: E731  # they may change between two pieces
        with Pipeline(encoders, work.deliver, room=work.room, stopped=work.stopped) as pipeline:
            for piece in pieces:
                pipeline.put(piece)
