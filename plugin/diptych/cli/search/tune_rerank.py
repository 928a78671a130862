"""`diptych tune rerank`: what a reranker's calls buy, with and without exploring."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.search.judgements import judged_queries
from diptych.cli.ui.options import (
    CONFIG,
    ConfigOption,
    JsonOption,
    JudgedFolder,
    QrelsOption,
    QueriesOption,
)
from diptych.cli.ui.output import say, stderr, stdout, table, write_json
from diptych.cli.ui.progress import Bars
from diptych.cli.ui.session import Session

if TYPE_CHECKING:
    from diptych.tune import RerankReport


def rerank(
    context: typer.Context,
    folder: JudgedFolder = None,
    config: ConfigOption = CONFIG,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    budget: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="N", help="Pairs scored for a query; repeat for more. [default: 25, 50, 100 and 200]"
        ),
    ] = None,
    sample: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum number of queries.")] = 50,
    pooled: Annotated[
        bool,
        typer.Option("--pooled", help="Compare with the best of all trials instead of scoring every document."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure quality and recall by the number of pairs that the reranker scores, with and without exploring.

    The config's first reranker is tried after each slot and after the config's fusion. First it scores every document
    for each query, unless --pooled is set. The collection is only read.

    [dim]Examples:[/dim]

      diptych tune rerank

      diptych tune rerank my-data --budget 50 --budget 100 --sample 100

      diptych tune rerank --pooled --json
    """
    from diptych.tune import tune_rerank
    from diptych.tune.rerank import BUDGETS

    session: Session = context.obj
    with session.collection(config, None, None) as opened, Bars() as bars:
        asked, judged = judged_queries(session.config(config).evaluate, folder, queries, qrels)
        found = tune_rerank(
            opened.handle,
            asked,
            judged,
            budgets=budget or BUDGETS,
            sample=sample,
            pooled=pooled,
            progress=bars,
            announce=_announce,
        )
    if as_json:
        return write_json(dataclasses.asdict(found))
    return show(found)


def _announce(queries: int, documents: int) -> None:
    calls = f"{queries * documents:,} calls of the reranker"
    say(stderr(), f"{queries:,} queries x {documents:,} documents = {calls}")


def show(found: RerankReport) -> None:
    """The rows as a table, and what exploring adds."""
    console = stdout()
    against = "its own list" if found.documents else "the best of all trials"
    say(console, f"{found.collection}: {found.reranker} on {found.queries:,} queries, against {against}", "bold")
    depths = (f"top {depth}" for depth in found.rows[0].recall)
    listing = table("", "first stage", "explores", "calls", "nDCG@10", *depths, right=3)
    for row in sorted(found.rows, key=lambda own: (own.first, own.calls, own.explore)):
        ndcg = "" if row.ndcg is None else f"{row.ndcg:.3f}"
        shares = (f"{share:.3f}" for share in row.recall.values())
        mark = ("●" if row.front and ndcg else " ") + ("○" if row.recall_front else " ")
        explores = "yes" if row.explore else ""
        listing.add_row(mark, row.first, explores, f"{row.calls:.0f}", ndcg, *shares)
    console.print(listing)
    say(console, "on the Pareto front with calls: ● nDCG@10, ○ top 50")
    say(console, "top 10, top 50: share of the reranker's own that it scored")
    for gain in found.gains:
        say(console, str(gain))
    if not found.gains:
        say(console, "the reranker does not explore: see `explore` in the docs of rerankers")
