"""`diptych info`: what a collection holds and what made its vectors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from diptych.cli.ui.options import CONFIG, CollectionOption, ConfigOption, JsonOption, StoreOption
from diptych.cli.ui.output import printable, stderr, stdout, write_json
from diptych.cli.ui.session import Session
from diptych.config.secrets import redacted

if TYPE_CHECKING:
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
    for warning in description.warnings:
        stderr().print(f"warning: {warning}", style="yellow", soft_wrap=True)
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
        yield "options", ", ".join(f"{key}: {value}" for key, value in redacted(slot.options).items())
    if slot.statistics:
        yield "corpus", ", ".join(f"{key} {value:,.0f}" for key, value in slot.statistics.items())
    if slot.unread:
        yield "unread", f"{slot.unread} (all documents encoded so far)"
    yield "vector", f"{slot.vector or '(unnamed)'}, generation {slot.generation}"
    yield "fingerprint", slot.fingerprint
