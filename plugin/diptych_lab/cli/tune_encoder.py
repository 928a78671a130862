"""`diptych tune encoder`: which encoders, width and bits answer judged queries best within a budget."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.options import (
    CONFIG,
    ConfigOption,
    DenseSlotOption,
    JsonOption,
    JudgedFolder,
    QrelsOption,
    QueriesOption,
    SyntheticOption,
    WriteOption,
)
from diptych.cli.output import Bars, show, write_json
from diptych.cli.run_command import Session
from diptych.errors import TuneError
from diptych_lab.cli.tune_search import SYNTHETIC, judged_or_synthetic

if TYPE_CHECKING:
    from diptych_lab.tune import ConfigChange, EncoderBudget, EncoderReport

OWN = ("adapter", "query", "storage", "options")  # keys of a slot that are no options of its adapter
EXPECTED = "ms=2, bytes=384, or a duration such as 2ms"


def encoder(
    context: typer.Context,
    folder: JudgedFolder = None,
    config: ConfigOption = CONFIG,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="LIMIT", help="ms=2: median time of a query; bytes=384: of a vector; repeat for both."),
    ] = None,
    slot: DenseSlotOption = None,
    others: Annotated[
        list[str] | None,
        typer.Option("--with", metavar="FOLDER", help="Also try this model, or ADAPTER=FOLDER; repeat for more."),
    ] = None,
    width: Annotated[
        list[int] | None,
        typer.Option(
            min=1, metavar="N", help="Number of leading dimensions to keep; repeat for more. [default: 1/2 and 1/4]"
        ),
    ] = None,
    documents: Annotated[
        int, typer.Option(min=1, metavar="N", help="Documents to sample, in addition to the relevant ones.")
    ] = 2000,
    sample: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum number of queries.")] = 200,
    synthetic: SyntheticOption = False,
    write: WriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try cheaper encoders and vectors: exits of the slot's model, students, shorter vectors, quantization.

    Documents and queries may have different encoders. The collection is only read.

    [dim]Examples:[/dim]

      diptych tune encoder --budget ms=2

      diptych tune encoder my-data --with ./runs/student --budget ms=2 --budget bytes=200

      diptych tune encoder --budget ms=5 --write && diptych plan && diptych apply
    """
    from diptych_lab.tune import ConfigChange, choices_of, edited, tune_encoder, write_config
    from diptych_lab.tune.index import slot_to_tune

    limits = limits_of(budget or [])
    session: Session = context.obj
    with session.collection(config, None, None) as opened, Bars() as bars:
        settings = session.config(config).evaluate
        tried = choices_of(slot_to_tune(opened.handle.now(), slot), others or [])
        asked, judged, made = judged_or_synthetic(
            opened, settings, folder, queries, qrels, synthetic=synthetic, write=write
        )
        found = tune_encoder(
            opened.handle,
            asked,
            judged,
            slot=slot,
            others=tried,
            widths=width or [],
            budget=limits,
            documents=documents,
            sample=sample,
            progress=bars,
        )
    is_change = found.reached and found.chosen != found.present
    change = edited(config, session.registry, lambda raw: set_encoder(raw, found, config), ("slots", "search"))
    change = change if is_change else ConfigChange()
    if write and found.passed:
        write_config(config, change)
    if as_json:
        return write_json(document(found, change, synthetic=made, written=write and found.passed))
    wrote = f"wrote {change.keys} to {config}; to make it live: diptych plan, then diptych apply"
    kept = f"{config} stays as it is: no change passed, so nothing was written"
    tail = [*change.diff.splitlines(), *([wrote if found.passed else kept] if write else [])]
    shown = found.display()
    return show(dataclasses.replace(shown, parts=(*shown.parts, *tail), warnings=(SYNTHETIC,) if made else ()))


def limits_of(given: Sequence[str]) -> EncoderBudget:
    """The budget of `--budget ms=2` and `--budget bytes=384`; a duration alone is the time.

    Raises:
        TuneError, SearchError: it cannot be read.
    """
    from diptych.config.section import require_duration
    from diptych_lab.tune import EncoderBudget

    limits: dict[str, Any] = {}
    for text in given:
        name, _, number = text.rpartition("=")
        if not name:
            limits["milliseconds"] = 1000 * require_duration("the budget", text, "--budget")
            continue
        try:
            key, value = {"ms": ("milliseconds", float(number)), "bytes": ("size", float(number))}[name]
        except (KeyError, ValueError):
            raise TuneError("the budget cannot be read", where="--budget", got=text, expected=EXPECTED) from None
        if not 0 < value < float("inf"):
            raise TuneError("the budget is not more than 0", where="--budget", got=text, expected="more than 0")
        limits[key] = value
    return EncoderBudget(**limits)


def set_encoder(raw: Any, found: EncoderReport, config: Path) -> str:
    """Put the chosen row into a config's mapping; returns the keys that it sets."""
    from diptych.training.register import relative

    def named(options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with the model as the config names it."""
        return {k: relative(v, config) if k == "model" and Path(str(v)).is_dir() else v for k, v in options.items()}

    row, present = found.rows[found.chosen], found.rows[found.present]
    documents, queries = found.choices[row.documents], found.choices[row.queries]
    cut = {"truncate_dim": row.width} if row.cut else {}
    slot = raw["slots"][found.slot]
    options = slot.get("options", slot)
    if row.documents != present.documents:
        for key in [key for key in options if key not in OWN]:
            del options[key]
        slot["adapter"] = documents.adapter
        options.update(named(documents.options))
    options.update(cut)
    if row.queries != row.documents:
        adapter = {} if queries.adapter == documents.adapter else {"adapter": queries.adapter}
        own = named(queries.options)
        slot["query"] = {**adapter, "student": own.pop("model"), **own, **cut}
    elif row.documents != present.documents:
        slot.pop("query", None)
    elif cut and slot.get("query"):
        slot["query"].update(cut)
    return _set_setup(raw, found)


def _set_setup(raw: Any, found: EncoderReport) -> str:
    """Put storage and search parameters of the chosen row into a config's mapping."""
    row, name = found.rows[found.chosen], found.slot
    if row.setup.now:
        return f"slots.{name}"
    said = row.setup.config(name)
    raw["slots"][name].pop("storage", None)
    if storage := said.get("slots", {}).get(name, {}).get("storage"):
        raw["slots"][name]["storage"] = storage
    params = raw.setdefault("search", {}).setdefault("params", {})
    for key in ("rescore", "oversampling"):
        params.pop(key, None)
    params.update(said.get("search", {}).get("params", {}))
    if not params:
        del raw["search"]["params"]
    if not raw["search"]:
        del raw["search"]
    return f"slots.{name}, search.params"


def document(found: EncoderReport, change: ConfigChange, *, synthetic: bool, written: bool) -> dict[str, Any]:
    """The report as JSON values."""
    rows = [
        {
            "name": row.name,
            **{field.name: getattr(row, field.name) for field in dataclasses.fields(row) if field.name != "setup"},
            **{"stored": row.setup.stored, "asked": row.setup.asked, "now": row.setup.now},
            "config": row.setup.config(found.slot),
        }
        for row in found.rows
    ]
    facts = {field.name: getattr(found, field.name) for field in dataclasses.fields(found)}
    facts |= {"rows": rows, "gain": found.gain and dataclasses.asdict(found.gain), "verdict": found.verdict}
    facts["choices"] = {
        name: {"adapter": choice.adapter, "model": choice.options.get("model")}
        for name, choice in found.choices.items()
    }
    return {**facts, "synthetic": synthetic, "diff": change.diff, "written": change.keys if written else ""}
