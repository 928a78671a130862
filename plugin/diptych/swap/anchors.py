"""Anchors of a collection: chosen among its documents. `diptych apply` scores them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from diptych.config.models import Config
from diptych.errors import SwapError
from diptych.handle.collection_handle import CollectionHandle
from diptych.metadata.models import CollectionMetadata, Generation
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

PAGE = 1000  # points that are read at a time
COUNT = 400  # anchors that are chosen unless told otherwise


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


@dataclass(frozen=True, slots=True)
class _Whose:
    """Whose file of anchors it is, and what to do if it is lost or was edited."""

    anchors: str
    lost: str
    edited: str


_LIVE = _Whose(
    "the live anchors",
    "restore it, or name another file in the config",
    "restore the old anchors in it; write the new anchors to a new file and name it",
)
_BUILDING = _Whose(
    "the anchors being built",
    "restore it and run this again, or abandon the anchors being built: diptych rollback",
    "restore its anchors and run this again, or abandon the anchors being built: diptych rollback",
)


def require_same_files(metadata: CollectionMetadata, config: Config, chosen: Sequence[str] = ()) -> None:
    """Refuse files whose anchors the scores are of, live or being built, and that are lost or hold other anchors now.

    Populate needs the old anchors for as long as it keeps up their scores: until `finish`. A build that was killed
    needs the anchors that it began with.

    Args:
        chosen: the anchors that a lost file is about to get; the same ones as before do for a build that was killed.

    Raises:
        SwapError: such a file is lost, or holds other anchors.
    """
    live, building = _digests(metadata.live.slots), _digests(metadata.swap.building if metadata.swap else {})
    for name, slot in config.slots.items():
        if slot.anchors is None:
            continue
        path, where = Path(slot.options[ANCHORS]["texts"]), f"slot {name!r}"
        if path in live:
            _require_same(path, live[path], _LIVE, where)
        elif path in building and (path.exists() or anchors_digest(chosen) != building[path]):
            _require_same(path, building[path], _BUILDING, where)


def _digests(generations: Mapping[str, Generation]) -> dict[Path, str]:
    """The digests of the anchors that were scored, by file."""
    return {
        Path(generation.options[ANCHORS]["texts"]): generation.space.rpartition(":")[2]
        for generation in generations.values()
        if has_anchors(generation.options)
    }


def _require_same(path: Path, digest: str, whose: _Whose, where: str) -> None:
    if not path.exists():
        raise SwapError(f"the file of {whose.anchors} is lost", where=where, got=str(path), do=whose.lost)
    if anchors_digest(read_anchors(path, where=where)) != digest:
        what = f"the file of {whose.anchors} holds other anchors now"
        raise SwapError(what, where=where, got=str(path), do=whose.edited)


def choose_missing(handle: CollectionHandle, config: Config, *, count: int | None = None, seed: int = 0) -> list[Path]:
    """Write the files of anchors that do not exist, from the titles of the collection's documents.

    Args:
        count: how many to choose, fewer where the collection has fewer titles; None for 400 and files of any size.

    Raises:
        SwapError: the config has no slot of anchors, the collection too few different titles, or a file that scores
            were made from, or are being made from, is lost or holds other anchors, or a file does not hold `count`.
    """
    files, metadata = slots_of_anchors(config), handle.read()
    missing = [path for path in dict.fromkeys(files.values()) if not path.exists()]
    anchors = choose_anchors(_titles(handle), count or COUNT, seed=seed) if missing else []
    require_same_files(metadata, config, anchors)
    if count is not None:
        _require_count(handle, metadata, files, count)
    if missing and len(anchors) < 2:
        what, do = "too few documents to choose anchors from", "populate first, or write queries into the file"
        got = f"{len(anchors)} different titles"
        raise SwapError(what, where=f"collection {handle.name!r}", got=got, expected="2 or more", do=do)
    for path in missing:
        write_anchors(path, anchors)
    return missing


def _require_count(
    handle: CollectionHandle, metadata: CollectionMetadata, files: Mapping[str, Path], count: int
) -> None:
    """Refuse files with another number of anchors, unless there were no more titles to choose from."""
    scored = {*_digests(metadata.live.slots), *_digests(metadata.swap.building if metadata.swap else {})}
    for name, path in files.items():
        where = f"slot {name!r}"
        present = len(read_anchors(path, where=where)) if path.exists() else count
        if present == count:
            continue
        if present < count and present == len(choose_anchors(_titles(handle), count, seed=0)):
            continue  # the same command wrote it
        new = "name a new file in the config" if path in scored else "delete the file, or name a new one in the config"
        raise SwapError(
            "the file of anchors holds another number than count",
            where=where,
            got=f"{path}: {present:,} anchors",
            expected=count,
            do=f"leave count out to use these; for others {new}",
        )


def _titles(handle: CollectionHandle) -> Iterator[tuple[str, str]]:
    """Title and text of every document."""
    layout, scroll = handle.read().layout, partial(handle.client.scroll, handle.name, limit=PAGE, with_vectors=False)
    for records in pages(lambda offset: scroll(offset=offset, with_payload=True)):
        for record in records:
            document = from_payload(record.id, record.payload, layout)
            yield document.title, document.text
