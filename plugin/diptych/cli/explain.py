"""`diptych explain`: why each hit stands where it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.options import CONFIG, CollectionOption, ConfigOption, DebugOption, JsonOption, StoreOption
from diptych.cli.output import printable, stdout, table, write_json
from diptych.cli.search import SNIPPET, hit_document, parse_filter, snippet
from diptych.cli.session import Session

if TYPE_CHECKING:
    from rich.table import Table

    from diptych.cli.explaining import Explained, Explanation, Standing

GAP = 2  # columns between the scores and the text
NARROWEST = 20  # columns below which a text says nothing


def explain(
    context: typer.Context,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="Hits, else the config's.")] = None,
    filter: Annotated[str | None, typer.Option(metavar="JSON", help="A Qdrant filter over the metadata.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show each hit's rank and score in every slot, its part of the fused score, and the later stages' scores.

    The parts of a reciprocal rank fusion add up to its score.

    [dim]Examples:[/dim]

      diptych explain "convert audio files between formats"

      diptych explain "mail server" --limit 3 --json
    """
    from diptych.cli.explaining import explain as explained

    wanted = parse_filter(filter, [])
    session: Session = context.obj
    with session.collection(config, store, collection) as opened:
        found = explained(opened, query, limit=limit, filter=wanted)
    return write_json(_document(found)) if as_json else _show(found)


def _document(found: Explanation) -> dict[str, Any]:
    hits = [{**hit_document(item.hit), "slots": dict(item.slots)} for item in found.hits]
    return {"query": found.query, "pipeline": repr(found.pipeline), "terms": found.terms, "hits": hits}


def _show(found: Explanation) -> None:
    console = stdout()
    console.print(f"pipeline: {found.pipeline!r}", soft_wrap=True, style="dim")
    for slot, terms in found.terms.items():
        words = ", ".join(f"{printable(word)} {weight:.3g}" for word, weight in terms)
        console.print(f"{slot} looks for: {words or 'nothing'}", soft_wrap=True)
    scores = _scores(found)
    room = console.width - console.measure(scores).maximum - GAP
    console.print(_scores(found, snippets=min(room, SNIPPET)) if room >= NARROWEST else scores)


def _scores(found: Explanation, *, snippets: int = 0) -> Table:
    """A row for each hit; with the beginning of its text, `snippets` characters long, unless that is 0."""
    slots = [branch.slot for branch in found.pipeline.retrieve]
    stages = list(dict.fromkeys(stage for item in found.hits for stage in item.hit.stages if stage not in slots))
    stages = stages if len(stages) > 1 else []  # a single one gave the score
    listing = table("", "score", "id", *slots, *stages, *(["document"] if snippets else []))
    for rank, item in enumerate(found.hits, 1):
        text = [snippet(item.hit, limit=snippets)] if snippets else []
        listing.add_row(str(rank), f"{item.hit.score:.4f}", *_cells(item, slots, stages), *text)
    return listing


def _cells(item: Explained, slots: list[str], stages: list[str]) -> list[str]:
    standings = [_standing(item.slots.get(slot)) for slot in slots]
    scores = [f"{item.hit.stages[stage]:.4f}" if stage in item.hit.stages else "" for stage in stages]
    return [printable(item.hit.id), *standings, *scores]


def _standing(found: Standing | None) -> str:
    """`#3 0.712 +0.0159`: rank, score, and part of the fused score."""
    if found is None:
        return "-"
    part = f" +{found.contribution:.4f}" if found.contribution is not None else ""
    return f"#{found.rank} {found.score:.3f}{part}"
