"""`diptych search`: the best documents for a query. `diptych explain`: why each hit stands where it stands."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from diptych.cli.search.filters import (
    examples_and_pins,
    media_files,
    naming_files,
    note_missing_keys,
    parse_filter,
    without_log_of_missing_keys,
)
from diptych.cli.search.show_hits import (
    SNIPPET,
    note_empty_tenant,
    note_threshold,
    pictures_of,
    show_groups,
    show_hits,
    snippet,
)
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
    WhereOption,
)
from diptych.cli.ui.output import printable, stdout, write_json
from diptych.cli.ui.progress import waiting
from diptych.cli.ui.session import Session
from diptych.errors import SearchError
from diptych.types import Query

if TYPE_CHECKING:
    from qdrant_client import models

    from diptych.collection.collection import Collection
    from diptych.collection.explanation import Explanation, SlotScore
    from diptych.search import HitGroup

INDENT = (0, 0, 0, 5)
WORDS = 12  # matching words shown of a slot; --json has all


def search(
    context: typer.Context,
    queries: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY...", help="The query; with none or -, reads one per line from standard input."),
    ] = None,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "-n", min=1, help="Hits per query; by default the config's.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Hits to skip at the top.")] = 0,
    only: Annotated[
        str | None,
        typer.Option("--only", "--slot", metavar="NAME", help="Only this slot, or a run of evaluate."),
    ] = None,
    filter: FilterOption = None,
    where: WhereOption = None,
    threshold: Annotated[float | None, typer.Option(help="Drop hits below this score.")] = None,
    group_by: Annotated[
        str | None, typer.Option(metavar="KEY", help="Group hits by this metadata key; -n counts groups.")
    ] = None,
    group_size: Annotated[int, typer.Option(min=1, metavar="N", help="With --group-by: hits per group.")] = 3,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare with every vector instead of using the graph.")
    ] = False,
    hnsw_ef: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Effort of the graph search; higher finds more and is slower."),
    ] = None,
    passages: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Passages per hit, where a slot has some; the best one is shown."),
    ] = None,
    highlight: Annotated[
        bool, typer.Option("--highlight", help="Show the sentence that answers best, with the words that match.")
    ] = False,
    image: ImageOption = None,
    media: MediaOption = None,
    like: LikeOption = None,
    unlike: UnlikeOption = None,
    pin: PinOption = None,
    exclude: ExcludeOption = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search with the config's pipeline. Piped, each hit is a tab-separated line: query, rank, score, id, text.

    The text is the hit's best passage if a slot has passages, otherwise the beginning of the document. A document
    without a text shows the files of its media.

    [dim]Examples:[/dim]

      diptych search "convert audio files between formats"

      diptych search "mail server" --limit 5 --where section=mail --json

      diptych search "mail server" --only lexical

      diptych search "mail server" --group-by section --group-size 2

      diptych search --filter '{"must_not": [{"key": "section", "match": {"value": "games"}}]}' "card deck"

      diptych search "mail server" --like postfix --unlike "text:mail client" --exclude sendmail

      diptych search "how to convert audio files" --highlight

      diptych search --image photo.jpg "on a white background"

      diptych search - < queries.txt
    """
    given = media_files(image, media or [])
    texts = [""] if given and not queries else texts_of(queries, beside="--like and --unlike" if like or unlike else "")
    wanted = parse_filter(filter, where or [])
    session: Session = context.obj
    with session.collection(config, store, collection) as opened:
        asked: dict[str, Any] = {
            "limit": limit,
            "filter": wanted,
            "score_threshold": threshold,
            "pipeline": only,
            "params": search_params(opened, exact=exact, hnsw_ef=hnsw_ef),
            "tenant": tenant,
            "passages": passages,
            "highlight": highlight or None,
            **examples_and_pins(like, unlike, pin, exclude),
        }
        questions = [Query(text, media=given) if given else text for text in texts]
        begin = time.perf_counter()
        waits = waiting("searching; encoders are loaded first")
        with naming_files(image, media or []), waits, without_log_of_missing_keys():
            sizes = {"group_size": group_size, "offset": offset}
            groups = None if group_by is None else grouped(opened, questions, asked, group_by=group_by, **sizes)
            found = [] if groups is not None else opened.search_batch(questions, offset=offset, **asked)
        seconds = time.perf_counter() - begin
        if not any(groups or found):
            note_empty_tenant(opened, tenant)
            note_threshold(opened, threshold, only)
            note_missing_keys(opened, wanted, tenant, group_by)
        hits = [hit for own in found for hit in own] + [hit for own in groups or () for g in own for hit in g.hits]
        pictures = {} if as_json else pictures_of(opened, hits, tenant)
    if groups is not None:
        return show_groups(opened.name, texts, groups, seconds, pictures=pictures, as_json=as_json)
    return show_hits(opened.name, texts, found, seconds, offset=offset, pictures=pictures, as_json=as_json)


def texts_of(queries: Sequence[str] | None, *, beside: str = "") -> list[str]:
    """The queries given, or the lines of standard input; `beside` names options that need a query.

    Raises:
        SearchError: there is none.
    """
    if queries and list(queries) != ["-"]:
        return list(queries)
    needed = f"there is no query; {beside} go with words or a picture" if beside else "there is no query"
    if not queries and sys.stdin.isatty():
        raise SearchError(needed, do='diptych search "some words", or pipe queries in, one per line')
    lines = [line.strip() for line in sys.stdin if line.strip()]
    if not lines:
        do = "add words, or --image FILE" if beside else ""
        raise SearchError(needed if beside else "standard input holds no query", expected="one query per line", do=do)
    return lines


def grouped(
    collection: Collection,
    queries: Sequence[str | Query],
    asked: Mapping[str, Any],
    *,
    group_by: str,
    group_size: int,
    offset: int,
) -> list[list[HitGroup]]:
    """The groups of each query, by the options that `search` takes too.

    Raises:
        SearchError: groups cannot be left out at the top.
    """
    from diptych.search import search_groups

    if offset:
        raise SearchError("--offset counts hits and does not go with --group-by", got=offset, do="leave one out")
    return search_groups(collection.handle, queries, group_by=group_by, group_size=group_size, **asked)


def search_params(collection: Collection, *, exact: bool, hnsw_ef: int | None) -> models.SearchParams | None:
    """The config's search parameters with these changes, None without changes."""
    if not exact and hnsw_ef is None:
        return None
    from qdrant_client import models

    from diptych.search import Pipeline

    handle = collection.handle
    given = Pipeline.from_config(handle.search_config, handle.slots).retrieve[0].params or models.SearchParams()
    changes = {"exact": exact or None, "hnsw_ef": hnsw_ef}
    return given.model_copy(update={name: value for name, value in changes.items() if value is not None})


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
