"""`diptych search`: the best documents for a query."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.search.filters import (
    examples_and_pins,
    media_files,
    naming_files,
    note_missing_keys,
    parse_filter,
    without_log_of_missing_keys,
)
from diptych.cli.search.show_hits import note_empty_tenant, note_threshold, pictures_of, show_groups, show_hits
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
from diptych.cli.ui.progress import waiting
from diptych.cli.ui.session import Session
from diptych.errors import SearchError
from diptych.types import Query

if TYPE_CHECKING:
    from qdrant_client import models

    from diptych.collection.collection import Collection
    from diptych.search import HitGroup


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
        raise SearchError(needed, do='diptych search "some words", or pipe queries in, one a line')
    lines = [line.strip() for line in sys.stdin if line.strip()]
    if not lines:
        do = "add words, or --image FILE" if beside else ""
        raise SearchError(needed if beside else "standard input holds no query", expected="one query a line", do=do)
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
