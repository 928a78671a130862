"""`diptych tune`: `index` measures how vectors are stored, `search` which pipeline answers best."""

from __future__ import annotations

import dataclasses
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from diptych.cli.options import (
    CONFIG,
    CollectionOption,
    ConfigOption,
    DenseSlotOption,
    JsonOption,
    JudgedFolder,
    QrelsOption,
    QueriesOption,
    StoreOption,
    SyntheticOption,
    WriteOption,
)
from diptych.cli.output import Bars, show, write_json
from diptych.cli.run_command import Session, command, group
from diptych_lab.cli.tune_encoder import encoder

if TYPE_CHECKING:
    from diptych_lab.tune import IndexReport, IndexRow


app = group("tune", "Measure settings of indexes, searches and encoders, and recommend some.")


class Least(StrEnum):
    """What the chosen setup takes least of."""

    MEMORY = "memory"
    LATENCY = "latency"
    DISK = "disk"


def index(
    context: typer.Context,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    slot: DenseSlotOption = None,
    sample: Annotated[int, typer.Option(min=100, metavar="N", help="Maximum number of vectors to index.")] = 10_000,
    points: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Measure as if the collection had N points, to plan ahead.")
    ] = None,
    queries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="queries.jsonl(.gz) to search with; by default 200 held-out vectors."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="Measure recall of the first N.")] = 10,
    recall: Annotated[float, typer.Option(min=0.01, max=1.0, help="Minimum recall of the chosen settings.")] = 0.98,
    least: Annotated[Least, typer.Option(metavar="WHAT", help="memory, latency or disk: what to minimise.")] = (
        Least.MEMORY
    ),
    prefix: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N", help="First-stage dimension to try; repeat for more. [default: a half and a quarter]"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure graphs, quantization and first stages: recall against exact search, latency, bytes.

    A sample of the slot's vectors is indexed with each setting in a temporary folder. The collection is only read.

    [dim]Examples:[/dim]

      diptych tune index

      diptych tune index --queries queries.jsonl --recall 0.99

      diptych tune index --slot dense --least latency --json
    """
    from diptych.evaluate import read_queries
    from diptych_lab.tune import Rule, tune_index

    texts = [query.text for query in read_queries(str(queries))] if queries else []
    session: Session = context.obj
    with session.stored(config, store, collection) as opened, Bars() as bars:
        found = tune_index(
            opened.handle,
            slot,
            prefixes=prefix,
            queries=texts,
            sample=sample,
            points=points,
            k=k,
            rule=Rule(recall, least.value),
            progress=bars,
        )
    write_json(document(found)) if as_json else show(found.display())


def search(
    context: typer.Context,
    folder: JudgedFolder = None,
    config: ConfigOption = CONFIG,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    depth: Annotated[
        list[int] | None,
        typer.Option(min=10, metavar="N", help="Candidates of each slot; repeat for more. [default: 50 and 100]"),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="Longest median time of a query, such as 50ms.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="COST", help="Highest cost of 1,000 queries, computed from --price."),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(metavar="RERANKER=PRICE", help="Price of 1,000 pairs that this reranker scores; repeat for more."),
    ] = None,
    synthetic: SyntheticOption = False,
    write: WriteOption = False,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for retrieved candidates, to continue after an interrupt."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Try fusions, weights, rescoring, rerankers and search parameters, and recommend what is shown to be better.

    Each query is searched once in each slot, and each reranker scores each candidate once; the rest is computed from
    that. The collection is only read.

    [dim]Examples:[/dim]

      diptych tune search

      diptych tune search my-data --budget 50ms

      diptych tune search --write && diptych plan && diptych apply
    """
    from diptych_lab.cli import tune_search as parts
    from diptych_lab.tune import ConfigChange, config_change, write_config

    limits = parts.budget_of(budget, max_cost, price or [])
    session: Session = context.obj
    with session.collection(config, None, None) as opened, Bars() as bars:
        settings = session.config(config).evaluate
        asked, judged, made = parts.judged_or_synthetic(
            opened, settings, folder, queries, qrels, synthetic=synthetic, write=write
        )
        found = parts.run(opened, asked, judged, depths=depth or [], budget=limits, folder=keep, progress=bars)
    change = config_change(config, found, session.registry) if found.passed else ConfigChange()
    if write and found.passed:
        write_config(config, change)
    parts.show_search(found, change, synthetic=made, write=write, config=config, as_json=as_json)


def document(found: IndexReport) -> dict[str, object]:
    """The report as JSON values; each row with the config that sets it up."""
    rows = [{**_row_document(row, found.slot), "chosen": row == found.chosen} for row in found.rows]
    return {**dataclasses.asdict(found), "rows": rows, "chosen": _row_document(found.chosen, found.slot)}


def _row_document(row: IndexRow, slot: str) -> dict[str, object]:
    facts = {name: getattr(row, name) for name in ("recall", "p50", "p95", "memory", "disk", "build", "front")}
    setup = row.setup
    return {"stored": setup.stored, "asked": setup.asked, "now": setup.now, **facts, "config": setup.config(slot)}


command(app, "index", index)
command(app, "search", search)
command(app, "encoder", encoder)
