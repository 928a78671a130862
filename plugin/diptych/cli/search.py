"""`diptych search`: the best documents for a query, and with `--explain` why each stands where it stands."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.options import (
    CONFIG,
    CollectionOption,
    ConfigOption,
    FilterOption,
    JsonOption,
    StoreOption,
    TenantOption,
    WhereOption,
    option,
    pairs_of,
)
from diptych.cli.output import show, stderr, waiting, warn, write_json
from diptych.cli.run_command import Session
from diptych.display import Display, printable, say
from diptych.errors import MediaError, SearchError
from diptych.types import Hit, Query, heading, hits_table

if TYPE_CHECKING:
    from qdrant_client import models

    from diptych.collection.collection import Collection
    from diptych.collection.explain import Explanation
    from diptych.search import HitGroup


def search(
    session: Session,
    queries: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY...", help="The query; with none or -, reads one per line from standard input."),
    ] = None,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    limit: Annotated[int | None, option("Hits per query; by default the config's.", "--limit", "-n", min=1)] = None,
    only: Annotated[
        str | None,
        option("Only this slot, or a run of evaluate.", metavar="NAME"),
    ] = None,
    explain: Annotated[
        bool, option("Show rank and score in every slot, matching words and later stages.", "--explain")
    ] = False,
    ids: Annotated[
        list[str] | None,
        option("With --explain: this document, hit or not; repeat for more.", "--id", metavar="ID"),
    ] = None,
    filter: FilterOption = None,
    where: WhereOption = None,
    threshold: Annotated[float | None, option("Drop hits below this score.")] = None,
    group_by: Annotated[str | None, option("Group hits by this metadata key; -n counts groups.", metavar="KEY")] = None,
    group_size: Annotated[int, option("With --group-by: hits per group.", metavar="N", min=1)] = 3,
    exact: Annotated[bool, option("Compare with every vector instead of using the graph.", "--exact")] = False,
    hnsw_ef: Annotated[
        int | None,
        option("Effort of the graph search; higher finds more and is slower.", metavar="N", min=1),
    ] = None,
    highlight: Annotated[
        bool, option("Show the sentence that answers best, with the words that match.", "--highlight")
    ] = False,
    image: Annotated[Path | None, option("A picture to search with, with or without words.", metavar="FILE")] = None,
    media: Annotated[
        list[str] | None,
        option("As --image: sound=FILE or video=FILE.", metavar="MODALITY=FILE"),
    ] = None,
    like: Annotated[
        list[str] | None,
        option("Prefer documents like this id, or text:WORDS; repeat for more.", metavar="ID"),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        option("Prefer documents unlike this id, or text:WORDS; repeat for more.", metavar="ID"),
    ] = None,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Search with the config's pipeline. Piped, each hit is a tab-separated line: query, rank, score, id, text.

    The text is the hit's best passage if a slot has passages, otherwise the beginning of the document. A document
    without a text shows the files of its media.

    With --explain the parts of a fusion add up to its score, and the parts of words to the score of their slot.

    [dim]Examples:[/dim]

      diptych search "convert audio files between formats"

      diptych search "mail server" --limit 5 --where section=mail --json

      diptych search "mail server" --only lexical

      diptych search "mail server" --group-by section --group-size 2

      diptych search --filter '{"must_not": [{"key": "section", "match": {"value": "games"}}]}' "card deck"

      diptych search "mail server" --like postfix --unlike "text:mail client"

      diptych search "how to convert audio files" --highlight

      diptych search --image photo.jpg "on a white background"

      diptych search - < queries.txt

      diptych search "mail server" --explain --id postfix --json
    """
    given = media_files(image, media or [])
    texts = [""] if given and not queries else texts_of(queries, beside="--like and --unlike" if like or unlike else "")
    wanted = parse_filter(filter, where or [])
    if ids and not explain:
        raise SearchError("--id goes with --explain", do="add --explain")
    for name, value in {"--group-by": group_by, "--highlight": highlight}.items():
        if explain and value:
            raise SearchError(f"{name} does not go with --explain", do="leave one of the two out")
    with session.collection(config, store, collection) as opened:
        from diptych.search import search_groups

        asked: dict[str, Any] = {
            "limit": limit,
            "filter": wanted,
            "score_threshold": threshold,
            "pipeline": only,
            "params": search_params(opened, exact=exact, hnsw_ef=hnsw_ef),
            "tenant": tenant,
            "like": _examples(like),
            "unlike": _examples(unlike),
        }
        shown: dict[str, Any] = {"highlight": highlight or None}
        questions = [Query(text, media=given) if given else text for text in texts]
        begin = time.perf_counter()
        found: list[Any]  # per query: explanations, groups or hits
        waits = waiting("searching; encoders are loaded first")
        with naming_files(image, media or []), waits, without_log_of_missing_keys():
            if explain:
                found = [opened.explain(question, ids=ids, **asked) for question in questions]
            elif group_by is not None:
                options: dict[str, Any] = {"group_by": group_by, "group_size": group_size, **asked, **shown}
                found = search_groups(opened.handle, questions, **options)
            else:
                found = opened.search_batch(questions, **asked, **shown)
        seconds = time.perf_counter() - begin
        if not any(found):
            note_empty_tenant(opened, tenant)
            if threshold is None and only is None:
                threshold = opened.handle.view.search_config.score_threshold
            if threshold is not None:
                say(stderr(), f"hits of scores below {threshold:g}, the score threshold, are left out", "yellow")
            note_missing_keys(opened, wanted, tenant, group_by)
    kind = "explanations" if explain else "groups" if group_by is not None else "hits"
    if as_json:
        answers = [{"query": text, kind: list(map(_document, own))} for text, own in zip(texts, found, strict=True)]
        return write_json({"collection": opened.name, "seconds": round(seconds, 4), "queries": answers})
    if not sys.stdout.isatty() and not explain:
        return _lines([printable(text) for text in texts], found)
    for text, own in zip(texts, found, strict=True):
        ranked = [hits_table(own)] if own and kind == "hits" else []
        show(Display(heading(len(own), "hit", text), ranked) if kind == "hits" else own.display())
    return None


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


def _document(item: Hit | HitGroup | Explanation) -> dict[str, Any]:
    """What was found as JSON values."""
    from diptych.search import HitGroup

    if isinstance(item, Hit):
        return hit_document(item)
    if isinstance(item, HitGroup):
        return {"value": item.value, "hits": [hit_document(hit) for hit in item.hits]}
    parts = {field.name: getattr(item, field.name) for field in dataclasses.fields(item)}
    return {"id": item.document.id, **parts, "pipeline": repr(item.pipeline)}


def note_empty_tenant(collection: Collection, tenant: str | None) -> None:
    """Where nothing was found for a tenant: say on standard error if that one has no documents, perhaps misspelt."""
    if tenant is not None and not collection.count(tenant=tenant):
        say(stderr(), f"tenant {tenant!r} has no documents", "yellow")


def hit_document(hit: Hit) -> dict[str, Any]:
    """A hit as JSON values."""
    return {**hit.as_dict(), "pinned": "pinned" in hit.stages}


def _lines(texts: Sequence[str], found: Sequence[Sequence[Hit | HitGroup]]) -> None:
    """A line of fields between tabs for each hit; a group's value stands behind the query.

    The last field is title and beginning of the text; of a document without either, its media.
    """
    for text, own in zip(texts, found, strict=True):
        for rank, item in enumerate(own, 1):
            if isinstance(item, Hit):
                parts = [part for part in (item.document.title, item.excerpt.text) if part.strip()]
                said = ": ".join(parts) or ", ".join(map(str, item.document.media.values()))
                fields = (text, str(rank), f"{item.score:.6g}", printable(item.id), printable(said, limit=1000))
                sys.stdout.write("\t".join(fields) + "\n")
            else:
                _lines([f"{text}\t{printable(str(item.value))}"], [item.hits])


_TEXT = "text:"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?")  # JSON's, short of infinity


def media_files(image: Path | None, media: Sequence[str]) -> dict[str, bytes]:
    """The bytes of the files given by modality. The user may name any file, not only those below `media.root`.

    Raises:
        ConfigError, SearchError: a part is not MODALITY=FILE, a modality has two files, or a file cannot be read.
    """
    found: dict[str, bytes] = {}
    for modality, name in pairs_of([*([f"image={image}"] if image else []), *media], "--media", "sound=bell.wav"):
        if modality in found:
            raise SearchError("--media names a modality twice", got=modality, expected="one file each")
        try:
            found[modality] = Path(name).read_bytes()
        except OSError as error:
            raise SearchError(f"the {modality} cannot be read: {error.strerror}", where=name) from error
    return found


@contextmanager
def naming_files(image: Path | None, media: Sequence[str]) -> Iterator[None]:
    """Within the block, an error about a file that `media_files` has read names the file."""
    try:
        yield
    except MediaError as error:
        from diptych.media import Media

        names = {**dict(part.split("=", 1) for part in media), **({"image": str(image)} if image else {})}
        name = names.get(error.media.modality) if isinstance(error.media, Media) and not error.media.source else None
        if name is None:
            raise
        raise MediaError(error.what, where=name, got=error.got, expected=error.expected, do=error.do) from error


def parse_filter(text: str | None, where: Sequence[str]) -> models.Filter | None:
    """`--filter` and all of `--where` as one Qdrant filter, None when there is neither.

    Raises:
        ConfigError, SearchError: the JSON is no filter, or a `--where` is not KEY=VALUE.
    """
    if text is None and not where:
        return None
    from qdrant_client import models

    from diptych.search.filters import read_filter

    given = [read_filter(text, name="--filter", short="--where section=mail")] if text is not None else []
    pairs = pairs_of(where, "--where", "section=mail")
    return models.Filter(must=[*given, *(_condition(key, value) for key, value in pairs)])


def _examples(values: Sequence[str] | None) -> list[str | Query]:
    """Ids, and queries for `text:WORDS`."""
    return [Query(value.removeprefix(_TEXT)) if value.startswith(_TEXT) else value for value in values or ()]


def note_missing_keys(
    collection: Collection, filter: models.Filter | None, tenant: str | None, group_by: str | None = None
) -> None:
    """Where nothing was found: say on standard error which keys of the filter or the groups no document has."""
    from diptych.search.filters import missing_keys

    if collection.handle.exists:
        warn(missing_keys(collection.handle.view, filter, tenant=tenant, group_by=group_by).values())


@contextmanager
def without_log_of_missing_keys() -> Iterator[None]:
    """Searches within the block log no warning of filter keys: the command prints its own."""

    def none(record: logging.LogRecord) -> bool:
        return False

    log = logging.getLogger("diptych.search.filters")
    log.addFilter(none)
    try:
        yield
    finally:
        log.removeFilter(none)


def _condition(key: str, written: str) -> models.FieldCondition | models.Filter:
    """`KEY=VALUE` as Qdrant compares it. What reads like a number or truth may be text in the documents too."""
    from qdrant_client import models

    from diptych.search.filters import equals

    typed = written in ("true", "false") or _NUMBER.fullmatch(written)
    ways = [*equals(key, json.loads(written)), *equals(key, written)] if typed else equals(key, written)
    return ways[0] if len(ways) == 1 else models.Filter(should=ways)
