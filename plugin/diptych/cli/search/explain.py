"""`diptych explain`: why each hit stands where it stands."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from diptych.cli.search.filters import examples_and_pins, media_files, naming_files, note_missing_keys, parse_filter
from diptych.cli.search.show_hits import SNIPPET, note_empty_tenant, snippet
from diptych.cli.ui.options import (
    CONFIG,
    CollectionOption,
    ConfigOption,
    ExcludeOption,
    FilterOption,
    ImageOption,
    JsonOption,
    LikeOption,
    MediaOption,
    PinOption,
    StoreOption,
    TenantOption,
    UnlikeOption,
)
from diptych.cli.ui.output import printable, stdout, write_json
from diptych.cli.ui.progress import waiting
from diptych.cli.ui.session import Session
from diptych.errors import SearchError
from diptych.types import Query

if TYPE_CHECKING:
    from diptych.collection.explanation import Explanation, SlotScore

INDENT = (0, 0, 0, 5)
WORDS = 12  # matching words shown of a slot; --json has all


def explain(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="The query; may be left out beside --image or --media.")] = "",
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Number of hits; by default the config's.")
    ] = None,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="Explain this document, hit or not; repeat for more.")
    ] = None,
    only: Annotated[
        str | None, typer.Option("--only", "--slot", metavar="NAME", help="Only this slot, or a run of evaluate.")
    ] = None,
    filter: FilterOption = None,
    image: ImageOption = None,
    media: MediaOption = None,
    like: LikeOption = None,
    unlike: UnlikeOption = None,
    pin: PinOption = None,
    exclude: ExcludeOption = None,
    tenant: TenantOption = None,
    blocks: Annotated[
        list[str] | None,
        typer.Option(
            "--blocks",
            metavar="SLOT=WIDTHS",
            help="A dense slot's score by blocks of its vectors: dense=384,384 or dense=a:384,b:384; repeat for more.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show each hit's rank and score in every slot, its part of the fused score, matching words and later stages.

    The parts of a fusion add up to its score, and the parts of words or blocks to the score of their slot.

    [dim]Examples:[/dim]

      diptych explain "convert audio files between formats" --limit 3

      diptych explain "mail server" --id postfix --json

      diptych explain "mail server" --blocks joined=minilm:384,small:384

      diptych explain --image photo.jpg
    """
    session: Session = context.obj
    given = media_files(image, media or [])
    if not query.strip() and not given:
        raise SearchError("there is no query", do='diptych explain "some words", or --image FILE')
    wanted, widths = parse_filter(filter, []), parse_blocks(blocks or [])
    with session.collection(config, store, collection) as opened:
        asked: dict[str, Any] = {"limit": limit, "filter": wanted, "pipeline": only, "tenant": tenant}
        asked |= examples_and_pins(like, unlike, pin, exclude)
        with naming_files(image, media or []), waiting("explaining; encoders are loaded first"):
            found = opened.explain(Query(query, media=given) if given else query, ids=ids, blocks=widths, **asked)
        if not found:
            note_empty_tenant(opened, tenant)
            note_missing_keys(opened, wanted, tenant)
    if as_json:
        return write_json({"query": query, "explanations": [_document(item) for item in found]})
    console = stdout()
    for item in found:
        _show(console, item)
    return None


def parse_blocks(given: Sequence[str]) -> dict[str, list[int] | dict[str, int]]:
    """By slot the widths of `SLOT=384,384`, or names and widths of `SLOT=a:384,b:384`.

    Raises:
        SearchError: it cannot be read.
    """
    blocks: dict[str, list[int] | dict[str, int]] = {}
    for text in given:
        slot, _, listed = text.partition("=")
        pairs = [part.rpartition(":") for part in listed.split(",")]
        names, widths = [name.strip() for name, _, _ in pairs], [width.strip() for _, _, width in pairs]
        named = len({*names} - {""}) == len(pairs)
        if not slot or slot in blocks or not all(width.isdecimal() for width in widths) or (any(names) and not named):
            expected = "SLOT=384,384, or SLOT=NAME:384,NAME:384, each slot and name once"
            raise SearchError("the blocks cannot be read", where="--blocks", got=text, expected=expected)
        numbers = [int(width) for width in widths]
        blocks[slot] = dict(zip(names, numbers, strict=True)) if named else numbers
    return blocks


def _document(item: Explanation) -> dict[str, Any]:
    parts = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    return {"id": item.document.id, **parts, "pipeline": repr(item.pipeline)}


def _show(console: Console, item: Explanation) -> None:
    place = f"{item.rank:>3}  {item.score:>8.4f}" if item.rank is not None else "  -         -"
    console.print(f"{place}  ", end="", style="dim")
    console.print(printable(item.document.id), style="bold cyan", soft_wrap=True)
    if item.lost:
        console.print(Padding(Text(f"no hit: {item.lost}", style="yellow"), INDENT, expand=False))
    console.print(Padding(Text(snippet(item.document)), INDENT, expand=False))
    rows = Table.grid(padding=(0, 2))
    for _ in ("name", "rank", "score", "part"):
        rows.add_column(no_wrap=True)  # a narrow terminal wraps the words instead of cutting numbers
    for row in _rows(item):
        rows.add_row(*row)
    console.print(Padding(rows, INDENT, expand=False))


def _rows(item: Explanation) -> Iterator[tuple[str, ...]]:
    """Slot or stage, rank, score, part of the fused score, matching words, blocks or best passage."""
    for name, slot in item.slots.items():
        yield _slot_row(name, slot)
    if item.fused is not None and item.pipeline.fuse:
        yield item.pipeline.fuse.label, "", "", f"={item.fused:.4f}"
    for name, added in item.boosts.items():
        yield name, "", "", f"{added:+z.4f}"
    for name, score in item.stages.items():
        yield name, "", f"{score:.4f}"
    for note in item.notes:
        yield "note", "", "", "", note


def _slot_row(name: str, slot: SlotScore) -> tuple[str, ...]:
    rank = "-" if slot.rank is None else f"#{slot.rank}"
    score = "" if slot.score is None else f"{slot.score:.4f}"
    part = "" if slot.contribution is None else f"{slot.contribution:+z.4f}"
    shown = [f"{printable(term.word)} {term.contribution:.2f}" for term in slot.terms[:WORDS]]
    more = [f"and {len(slot.terms) - WORDS:,} more"] if len(slot.terms) > WORDS else []
    words = ", ".join(shown + more)
    blocks = ", ".join(f"{printable(block.name)} {block.contribution:.4f}" for block in slot.blocks)
    return name, rank, score, part, words or blocks or _passage(slot)


def _passage(slot: SlotScore) -> str:
    if slot.passage is None:
        return ""
    return f"best of {slot.passages} passages: {printable(slot.passage.text, limit=SNIPPET)}"
