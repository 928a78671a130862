"""`diptych info` and `diptych collections`: what a collection, and a store, hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from diptych.cli.ui.options import CONFIG, CollectionOption, ConfigOption, JsonOption, StoreOption
from diptych.cli.ui.output import printable, stderr, stdout, table, warn, write_json
from diptych.cli.ui.session import Session, opened_store
from diptych.config.secrets import redacted
from diptych.config.written import as_written
from diptych.errors import CollectionError

if TYPE_CHECKING:
    from qdrant_client.client_base import QdrantBase

    from diptych.reports import CollectionInfo, SlotInfo


def info(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a collection: documents, slots, encoders, fingerprints. Loads no model.

    [dim]Examples:[/dim]

      diptych info

      diptych info --store edge:./qdrant --collection packages --json
    """
    session: Session = context.obj
    with session.collection(config, store, collection, verify=False) as opened:
        description = opened.info()
    if as_json:
        slots = [{**dataclasses.asdict(slot), "options": redacted(slot.options)} for slot in description.slots]
        return write_json(
            {
                "name": description.name,
                "documents": description.documents,
                "slots": slots,
                "fusion": dict(description.fusion),
                "warnings": description.warnings,
            }
        )
    _show(description)
    warn(description.warnings)
    return None


def _show(description: CollectionInfo) -> None:
    console = stdout()
    console.print(f"{description.name}: {description.documents:,} documents", style="bold")
    if not description.slots:
        console.print("not filled yet: diptych populate SOURCE")
        return
    for slot in description.slots:
        console.print(f"{slot.name} ({slot.kind})", style="bold cyan")
        for label, value in _facts(slot):
            console.print(f"  {label:<12}{printable(value)}", soft_wrap=True)
    if description.fusion:
        fusion = ", ".join(f"{key}: {value}" for key, value in description.fusion.items())
        console.print(f"fused by {printable(fusion)}", soft_wrap=True, markup=False)


def _facts(slot: SlotInfo) -> Iterator[tuple[str, str]]:
    yield "adapter", slot.adapter
    if slot.of != "text":
        yield "reads", slot.of
    if slot.options:
        yield "options", ", ".join(f"{key}: {as_written(value)}" for key, value in redacted(slot.options).items())
    if slot.statistics:
        yield "corpus", ", ".join(f"{key} {value:,.0f}" for key, value in slot.statistics.items())
    if slot.unread:
        yield "unread", f"{slot.unread} (all documents encoded so far)"
    yield "vector", f"{slot.vector or '(unnamed)'}, generation {slot.generation}"
    yield "fingerprint", slot.fingerprint


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
    return _show_rows(rows, configured)


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


def _show_rows(rows: list[Row], configured: str | None) -> None:
    listing = table("collection", "points", "slots", "state")
    for row in rows:
        slots = ", ".join(f"{slot} ({adapter})" for slot, adapter in row.slots.items())
        marker = " *" if row.name == configured else ""
        listing.add_row(printable(row.name) + marker, f"{row.points:,}", printable(slots) or "-", row.state)
    if rows:
        stdout().print(listing)
