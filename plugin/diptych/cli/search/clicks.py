"""`diptych clicks`: judged queries from a log of shown hits and clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from diptych.cli.ui.options import JsonOption
from diptych.cli.ui.output import printable, say, stderr, stdout, write_json


def clicks(
    log: Annotated[
        Path, typer.Argument(metavar="LOG", help='JSON lines with "query", and lists of ids as "shown" and "clicked".')
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The BEIR folder to write.")],
    power: Annotated[
        float | None,
        typer.Option(min=0, metavar="P", help="Assume that users look at rank r with probability (1/r)**P."),
    ] = None,
    least: Annotated[int, typer.Option(min=1, metavar="N", help="Leave out queries shown fewer times.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Make judged queries from clicks, corrected for position bias: higher ranks are clicked more often.

    The bias is measured on documents that were shown at several ranks for the same query, or assumed with --power. A
    document's rank must not have depended on how relevant it was at that moment.

    [dim]Examples:[/dim]

      diptych clicks log.jsonl from-clicks && diptych evaluate from-clicks

      diptych clicks log.jsonl from-clicks --power 1
    """
    from diptych.judge import ClickLog, Propensities, judged_from_clicks, write_beir

    click_log = ClickLog.read(log)
    propensities = Propensities.harvested(click_log) if power is None else Propensities.power_law(power, ranks=10)
    queries, qrels = judged_from_clicks(click_log, propensities, least_shown=least)
    write_beir(folder, queries, qrels)
    ignored = click_log.ignored
    count = sum(len(grades) for grades in qrels.judgements.values())
    facts = {"lists": len(click_log.shown), "queries": len(queries), "judgements": count, "ignored": len(ignored)}
    if ignored:
        (query, name), clicks_text = ignored[0], "1 click" if len(ignored) == 1 else f"{len(ignored)} clicks"
        first = f"first {printable(name)!r} for {printable(query)!r}"
        say(stderr(), f"warning: {clicks_text} on ids that were not shown, ignored: {first}", "yellow")
    if as_json:
        return write_json({**facts, "propensities": propensities.values})
    console, source = stdout(), "measured" if power is None else "assumed"
    values = " ".join(f"{value:.2f}" for value in propensities.values)
    console.print(f"ranks are looked at ({source}): {values}", soft_wrap=True)
    text = f"{len(queries)} queries, {count} judgements from {len(click_log.shown)} lists; wrote {folder}"
    console.print(text, soft_wrap=True)
    return None
