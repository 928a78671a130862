"""`Refusal`: why the gate refused a swap, stored in the collection for others than the process that applies it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from diptych.handle.create import now, who
from diptych.metadata.models import GATE, Record, Swap
from diptych.metadata.store import update_metadata

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


class Refusal(Record):
    """What the gate said: of the swap that began at `began`, measured at `when` by `by`."""

    began: str
    sentence: str
    when: str
    by: str


def note_refusal(client: QdrantBase, name: str, swap: Swap, sentence: str) -> None:
    """Store why the gate refused the swap.

    Raises:
        StoreUnavailable: the nodes do not show it in time.
    """
    refusal = Refusal(began=swap.began, sentence=sentence, when=now(), by=who())
    update_metadata(client, name, {GATE: refusal.model_dump(mode="json")})


def refusal_of(raw: Mapping[str, Any], swap: Swap) -> Refusal | None:
    """Why the gate refused this swap when it was last applied; None if it did not.

    Args:
        raw: the whole stored metadata by key.
        swap: the swap under way; what was said of an earlier one does not count.
    """
    try:
        refusal = Refusal.model_validate(raw[GATE]) if raw.get(GATE) else None
    except ValidationError:
        return None  # of a release with another format
    return refusal if refusal and refusal.began == swap.began else None
