"""`diptych search`: the best documents for a query."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from diptych.cli.options import CONFIG, CollectionOption, ConfigOption, DebugOption, JsonOption, StoreOption
from diptych.cli.output import printable, stderr, stdout, write_json
from diptych.cli.session import Session
from diptych.errors import SearchError

if TYPE_CHECKING:
    from qdrant_client import models

    from diptych.collection import Collection
    from diptych.search import Pipeline
    from diptych.types import Document, Hit

SNIPPET = 140  # characters of a hit's text


def search(
    context: typer.Context,
    queries: Annotated[
        list[str] | None,
        typer.Argument(metavar="QUERY...", help="What to look for; none or - reads one a line from standard input."),
    ] = None,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Hits a query, else the config's.")] = None,
    offset: Annotated[int, typer.Option(min=0, help="Hits to leave out at the top.")] = 0,
    only: Annotated[
        str | None, typer.Option("--only", "--slot", metavar="SLOT", help="This slot alone, without later stages.")
    ] = None,
    filter: Annotated[str | None, typer.Option(metavar="JSON", help="A Qdrant filter over the metadata.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="Only documents with this metadata; again for more.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Leave out hits below this score.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Search by the pipeline of the config. Piped, each hit is a line: query, rank, score, id, text, with tabs between.

    [dim]Examples:[/dim]

      diptych search "convert audio files between formats"

      diptych search "mail server" --limit 5 --where section=mail --json

      diptych search "mail server" --only lexical

      diptych search --filter '{"must_not": [{"key": "section", "match": {"value": "games"}}]}' "card deck"

      diptych search - < queries.txt
    """
    texts = texts_of(queries)
    wanted = parse_filter(filter, where or [])
    session: Session = context.obj
    with session.collection(config, store, collection) as opened:
        begin = time.perf_counter()
        found = opened.search_batch(
            texts,
            limit=limit,
            offset=offset,
            filter=wanted,
            score_threshold=threshold,
            pipeline=single(opened, only),
        )
        seconds = time.perf_counter() - begin
    if as_json:
        return write_json(_document(opened.name, texts, found, seconds))
    return _show(texts, found, offset)


def texts_of(queries: Sequence[str] | None) -> list[str]:
    """The queries given, or the lines of standard input.

    Raises:
        SearchError: there is none.
    """
    if queries and list(queries) != ["-"]:
        return list(queries)
    if not queries and sys.stdin.isatty():
        raise SearchError("there is no query", do='diptych search "some words", or pipe queries in, one a line')
    lines = [line.strip() for line in sys.stdin if line.strip()]
    if not lines:
        raise SearchError("standard input holds no query", expected="one query a line")
    return lines


def parse_filter(text: str | None, where: Sequence[str]) -> models.Filter | None:
    """`--filter` and all of `--where` as one Qdrant filter, None when there is neither.

    Raises:
        SearchError: the JSON is no filter, or a `--where` is not KEY=VALUE.
    """
    if text is None and not where:
        return None
    from pydantic import ValidationError
    from qdrant_client import models

    try:
        given = models.Filter.model_validate_json(text) if text is not None else None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(part for part in map(str, first["loc"]) if "[" not in part)  # without names of unions
        raise SearchError("--filter is no Qdrant filter", where=place, got=first["msg"], do=_FILTER_HINT) from error
    equal = [models.FieldCondition(key=k, match=models.MatchValue(value=v)) for k, v in map(_pair, where)]
    return models.Filter(must=[*([given] if given else []), *equal])


_FILTER_HINT = """write JSON such as {"must": [{"key": "section", "match": {"value": "mail"}}]}"""


def _pair(text: str) -> tuple[str, str | int | bool]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SearchError("--where is not KEY=VALUE", got=text, expected="such as section=mail")
    if value in ("true", "false"):
        return key, value == "true"
    return key, int(value) if value.lstrip("-").isdecimal() else value


def single(collection: Collection, slot: str | None) -> Pipeline | None:
    """The pipeline of one slot alone, None for the config's."""
    if slot is None:
        return None
    from diptych.search import Pipeline, Retrieve

    params = Pipeline.from_config(collection.handle.search_config, collection.handle.slots).retrieve[0].params
    return Pipeline((Retrieve(slot, params=params),))


def _document(name: str, texts: Sequence[str], found: Sequence[Sequence[Hit]], seconds: float) -> dict[str, Any]:
    queries = [{"query": text, "hits": [_hit(hit) for hit in hits]} for text, hits in zip(texts, found, strict=True)]
    return {"collection": name, "seconds": round(seconds, 4), "queries": queries}


def _hit(hit: Hit) -> dict[str, Any]:
    """A hit as JSON values."""
    document = hit.document
    return {
        "id": hit.id,
        "score": hit.score,
        "stages": dict(hit.stages),
        "title": document.title,
        "text": document.text,
        "metadata": dict(document.metadata),
    }


def _show(texts: Sequence[str], found: Sequence[Sequence[Hit]], offset: int) -> None:
    if not sys.stdout.isatty():
        return _lines(texts, found, offset)
    console = stdout()
    for text, hits in zip(texts, found, strict=True):
        if len(texts) > 1:
            console.print(printable(text), style="bold underline")
        if not hits:
            stderr().print("nothing found", style="dim")
        for rank, hit in enumerate(hits, offset + 1):
            console.print(f"{rank:>3}  {hit.score:>8.4f}  ", end="", style="dim")
            console.print(printable(hit.id), style="bold cyan", soft_wrap=True)
            console.print(Padding(Text(snippet(hit.document)), (0, 0, 0, 5)))
    return None


def snippet(document: Document, *, limit: int = SNIPPET) -> str:
    """Title and beginning of the text, on one line."""
    parts = (document.title, document.text)
    return printable(": ".join(part for part in parts if part.strip()), limit=limit)


def _lines(texts: Sequence[str], found: Sequence[Sequence[Hit]], offset: int) -> None:
    for text, hits in zip(texts, found, strict=True):
        for rank, hit in enumerate(hits, offset + 1):
            fields = (
                printable(text),
                str(rank),
                f"{hit.score:.6g}",
                printable(hit.id),
                snippet(hit.document, limit=1000),
            )
            sys.stdout.write("\t".join(fields) + "\n")
