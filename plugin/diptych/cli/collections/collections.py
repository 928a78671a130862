"""`diptych collections`: lists the collections of a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from diptych.cli.ui.options import CONFIG, ConfigOption, JsonOption, StoreOption
from diptych.cli.ui.output import printable, stderr, stdout, table, write_json
from diptych.cli.ui.session import Session, opened_store
from diptych.errors import CollectionError

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase


@dataclass(frozen=True, slots=True)
class Row:
    """A collection: points, adapters by slot, and whether diptych knows it, or why it cannot be opened."""

    name: str
    points: int
    slots: dict[str, str]
    known: bool
    state: str


def collections(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the collections of a store: points, slots, and whether diptych knows them. Loads no model.

    [dim]Examples:[/dim]

      diptych collections

      diptych collections --store http://localhost:6333 --json
    """
    session: Session = context.obj
    with opened_store(session, config, store) as (client, configured):
        names = sorted(description.name for description in client.get_collections().collections)
        rows = [_row(client, name) for name in names]
    if as_json:
        return write_json({"collections": rows})
    if not rows:
        stderr().print("the store has no collections; fill one: diptych populate SOURCE")
    return _show(rows, configured)


def _row(client: QdrantBase, name: str) -> Row:
    from diptych.metadata.store import read_metadata

    points = client.count(name, exact=True).count
    try:
        metadata = read_metadata(client, name)
    except CollectionError as error:
        return Row(name, points, {}, False, error.what)
    if metadata is None:
        return Row(name, points, {}, False, "not diptych's; take it over: diptych adopt")
    slots = {slot: generation.adapter for slot, generation in metadata.live.slots.items()}
    return Row(name, points, slots, True, "a swap is under way" if metadata.swap else "ready")


def _show(rows: list[Row], configured: str | None) -> None:
    listing = table("collection", "points", "slots", "state")
    for row in rows:
        slots = ", ".join(f"{slot} ({adapter})" for slot, adapter in row.slots.items())
        marker = " *" if row.name == configured else ""
        listing.add_row(printable(row.name) + marker, f"{row.points:,}", printable(slots) or "-", row.state)
    if rows:
        stdout().print(listing)
