"""Stores references to the media that another program's payloads name, so that diptych can read them again.

A payload key of an adopted collection holds a path or URL. The file is read once, and a reference with its digest is
stored in the payload, under `_diptych.media`. The program's own keys stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qdrant_client import models

from diptych.errors import MediaError
from diptych.media import MediaStore
from diptych.metadata.payloads import MEDIA, OWN, TEXTLESS, Layout, find, head, quoted
from diptych.populate.rejects import reason_of
from diptych.stores.scroll import pages

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

PAGE = 64  # points whose files are read before their references are written
SHOWN = 3  # points that a warning names
LONGEST = 4096  # characters of a path or URL; a longer text holds the media itself


@dataclass(slots=True)
class StoredReferences:
    """What `store_references` did: references by modality, points whose media cannot be read, and some reasons."""

    stored: dict[str, int] = field(default_factory=dict)
    unreadable: int = 0
    reasons: list[str] = field(default_factory=list)

    def warnings(self) -> list[str]:
        """A sentence about media that cannot be read."""
        if not self.unreadable:
            return []
        points = f"media of {self.unreadable:,} points cannot be read"
        return [f"{points}, so that no other encoder can encode them: {'; '.join(self.reasons)}"]


def store_references(client: QdrantBase, name: str, layout: Layout, store: MediaStore) -> StoredReferences:
    """Store a reference for each point whose payload names media under `layout.media` and has no reference yet.

    Points that the other program rewrites or deletes meanwhile are left to the next call.
    """
    result = StoredReferences()
    for modality, key in layout.media.items():
        fields, chosen = [*layout.text_fields(), head(key)], without_reference(modality, key)
        for records, _ in pages(client, name, PAGE, chosen, payload=fields):
            operations: list[models.UpdateOperation] = []
            for record in records:
                item = _taken(store, modality, record, key, result)
                if item is not None:
                    operations += _changes(record, layout, key, modality, item)
                    result.stored[modality] = result.stored.get(modality, 0) + 1
            if operations:
                client.batch_update_points(name, operations)
    return result


def reference_warnings(client: QdrantBase, name: str, layout: Layout) -> list[str]:
    """A sentence about points that another program has written since references were last stored."""
    counts = {
        of: client.count(name, count_filter=without_reference(of, key), exact=True).count
        for of, key in layout.media.items()
    }
    return [
        f"{count:,} points name {of} media under {layout.media[of]!r} but have no reference: apply reads them"
        for of, count in counts.items()
        if count
    ]


def media_named(payload: Mapping[str, Any] | None, key: str) -> Any:
    """What a payload names under a key of media; None if there is nothing."""
    return find(payload or {}, key) or None


def without_reference(modality: str, key: str) -> models.Filter:
    """A filter for points that name media under the key and have no reference to them."""
    named = models.IsEmptyCondition(is_empty=models.PayloadField(key=quoted(key)))
    missing = models.IsEmptyCondition(is_empty=models.PayloadField(key=f"{OWN}.{MEDIA}.{modality}"))
    nothing = models.FieldCondition(key=quoted(key), match=models.MatchValue(value=""))
    return models.Filter(must=[missing], must_not=[named, nothing])


def _taken(
    store: MediaStore, modality: str, record: models.Record, key: str, result: StoredReferences
) -> dict[str, Any] | None:
    """The reference to the media of a point; None, counted with the reason, if they cannot be read."""
    try:
        return store.to_payload(store.take(modality, media_named(record.payload, key)))
    except MediaError as error:
        result.unreadable += 1
        if len(result.reasons) < SHOWN:
            result.reasons.append(f"{record.id}: {reason_of(error)}")
        return None


def _changes(
    record: models.Record, layout: Layout, key: str, modality: str, item: Mapping[str, Any]
) -> Iterator[models.SetPayloadOperation]:
    """The updates of one point, which do nothing if it is gone or names other media by now."""
    raw, conditions = media_named(record.payload, key), list[models.Condition]()
    if isinstance(raw, str) and len(raw) <= LONGEST:
        conditions = [models.FieldCondition(key=quoted(key), match=models.MatchValue(value=raw))]
    same = models.Filter(must=[models.HasIdCondition(has_id=[record.id]), *conditions])

    def put(payload: Mapping[str, Any], key: str) -> models.SetPayloadOperation:
        return models.SetPayloadOperation(set_payload=models.SetPayload(payload=dict(payload), filter=same, key=key))

    yield put({modality: dict(item)}, f"{OWN}.{MEDIA}")
    document = layout.read(record.id, record.payload)
    if not (document.text.strip() or document.title.strip()):
        yield put({TEXTLESS: True}, OWN)
