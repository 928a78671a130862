"""Anchors of a collection: chosen among its documents, what scoring them costs, and how far it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diptych.config.models import Config
from diptych.errors import SwapError
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.models import State
from diptych.metadata.payloads import from_payload
from diptych.plugins.anchor_scores import (
    ANCHORS,
    anchors_digest,
    choose_anchors,
    has_anchors,
    read_anchors,
    write_anchors,
)
from diptych.stores.scroll import pages
from diptych.swap.plan import Plan
from diptych.swap.status import Role, status

PAGE = 1000  # points that are read at a time


@dataclass(frozen=True, slots=True)
class AnchorsToScore:
    """What filling a slot of anchors costs.

    Args:
        slot, reranker: the slot, and its adapter.
        anchors: how many.
        documents: how many have no scores yet.
        seconds: estimated from a sample; None where nothing is to be scored.
    """

    slot: str
    reranker: str
    anchors: int
    documents: int
    seconds: float | None

    @property
    def calls(self) -> int:
        """Pairs that the reranker scores."""
        return self.anchors * self.documents


@dataclass(frozen=True, slots=True)
class AnchorsState:
    """A vector of anchor scores: its role, how many documents have scores, and how many lack them."""

    slot: str
    vector: str
    role: Role
    reranker: str
    anchors: int
    scored: int
    missing: int


def slots_of_anchors(config: Config) -> dict[str, Path]:
    """The config's slots of anchors, with the files of their texts.

    Raises:
        SwapError: it has none.
    """
    files = {
        name: Path(slot.options[ANCHORS]["texts"]) for name, slot in config.slots.items() if slot.anchors is not None
    }
    if not files:
        do = "add one: slots: {scores: {adapter: RERANKER, ..., anchors: {texts: ./anchors.txt}}}"
        raise SwapError("the config has no slot of anchors", where=config.source.name, do=do)
    return files


def require_same_files(live: State, config: Config) -> None:
    """Refuse files whose anchors the live scores are of, and that are lost or hold other anchors now.

    Populate needs the old anchors for as long as it keeps up their scores: until `finish`.

    Raises:
        SwapError: such a file is lost, or holds other anchors.
    """
    digests = {
        Path(generation.options[ANCHORS]["texts"]): generation.space.rpartition(":")[2]
        for generation in live.slots.values()
        if has_anchors(generation.options)
    }
    for name, slot in config.slots.items():
        if slot.anchors is None or (path := Path(slot.options[ANCHORS]["texts"])) not in digests:
            continue
        if not path.exists():
            what, do = "the file of the live anchors is lost", "restore it, or name another file in the config"
            raise SwapError(what, where=f"slot {name!r}", got=str(path), do=do)
        if anchors_digest(read_anchors(path, where=f"slot {name!r}")) != digests[path]:
            what = "the file of the live anchors holds other anchors now"
            do = "restore the old anchors in it; write the new anchors to a new file and name it"
            raise SwapError(what, where=f"slot {name!r}", got=str(path), do=do)


def choose_missing(handle: CollectionHandle, config: Config, *, count: int, seed: int) -> list[Path]:
    """Write the files of anchors that do not exist, from the titles of the collection's documents.

    Raises:
        SwapError: the config has no slot of anchors, the collection too few different titles, or a file that the live
            scores were made from is lost or holds other anchors.
    """
    require_same_files(handle.read().live, config)
    missing = [path for path in dict.fromkeys(slots_of_anchors(config).values()) if not path.exists()]
    if missing:
        anchors = choose_anchors(_titles(handle), count, seed=seed)
        if len(anchors) < 2:
            what, do = "too few documents to choose anchors from", "populate first, or write queries into the file"
            got = f"{len(anchors)} different titles"
            raise SwapError(what, where=f"collection {handle.name!r}", got=got, expected="2 or more", do=do)
        for path in missing:
            write_anchors(path, anchors)
    return missing


def to_score(handle: CollectionHandle, planned: Plan, config: Config) -> list[AnchorsToScore]:
    """What each slot of anchors costs; after a kill, what is left of it.

    Raises:
        SwapError: other slots change as well.
    """
    files = slots_of_anchors(config)
    if others := [step.slot for step in planned.steps if step.slot not in files and step.action != "keep"]:
        do = "apply all of it: diptych plan, then diptych apply"
        raise SwapError(
            "the config changes other slots as well", where=config.source.name, got=", ".join(others), do=do
        )
    states = anchors_status(handle) if planned.under_way else []
    left = {state.slot: state.missing for state in states if state.role == "building"}
    found = []
    for step in planned.steps:
        if step.slot in files:
            anchors = len(read_anchors(files[step.slot], where=f"slot {step.slot!r}"))
            documents = left.get(step.slot, step.encode)
            seconds = documents / step.rate if step.rate else None
            found.append(AnchorsToScore(step.slot, config.slots[step.slot].adapter, anchors, documents, seconds))
    return found


def anchors_status(handle: CollectionHandle) -> list[AnchorsState]:
    """The vectors of anchor scores that the collection has. Loads no reranker.

    Raises:
        CollectionNotFound: there is no collection yet.
    """
    generations = {
        vector: generation
        for vector, (_, generation) in handle.read().written().items()
        if has_anchors(generation.options)
    }
    return [
        AnchorsState(
            found.slot,
            found.vector,
            found.role,
            found.adapter,
            (generations[found.vector].dimension or 1) - 1,
            found.points - found.missing,
            found.missing,
        )
        for found in status(handle).vectors
        if found.vector in generations
    ]


def _titles(handle: CollectionHandle) -> Iterator[tuple[str, str]]:
    """Title and text of every document."""
    layout, scroll = handle.read().layout, partial(handle.client.scroll, handle.name, limit=PAGE, with_vectors=False)
    for records in pages(lambda offset: scroll(offset=offset, with_payload=True)):
        for record in records:
            document = from_payload(record.id, record.payload, layout)
            yield document.title, document.text
