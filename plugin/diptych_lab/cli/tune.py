"""`diptych tune`: `index` measures how vectors are stored, `search` pipelines, `encoder` encoders."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from diptych.cli.evaluate import judged_queries
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
    option,
)
from diptych.cli.output import Bars, show, write_json
from diptych.cli.run_command import Session, command, group
from diptych.errors import EvaluationError

if TYPE_CHECKING:
    from diptych import Collection
    from diptych.config.models import EvaluateConfig
    from diptych.evaluate import Qrels
    from diptych.types import Query
    from diptych_lab.tune import ConfigChange, EncoderReport, IndexReport, SearchReport

SAMPLE = 200
SYNTHETIC = "words of the documents favour lexical slots: judge real queries before you trust it"
OWN = ("adapter", "query", "storage", "options")  # keys of a slot that are no options of its adapter

app = group("tune", "Measure settings of indexes, searches and encoders, and recommend some.")


def index(
    session: Session,
    config: ConfigOption = CONFIG,
    store: StoreOption = None,
    collection: CollectionOption = None,
    slot: DenseSlotOption = None,
    sample: Annotated[int, option("Maximum number of vectors to index.", metavar="N", min=100)] = 10_000,
    points: Annotated[
        int | None, option("Measure as if the collection had N points, to plan ahead.", metavar="N", min=1)
    ] = None,
    queries: Annotated[
        Path | None,
        option("queries.jsonl(.gz) to search with; by default 200 held-out vectors.", metavar="FILE"),
    ] = None,
    k: Annotated[int, option("Measure recall of the first N.", "-k", metavar="N", min=1)] = 10,
    recall: Annotated[float, option("Minimum recall of the chosen settings.", min=0.01, max=1.0)] = 0.98,
    least: Annotated[
        Literal["memory", "latency", "disk"],
        option("memory, latency or disk: what to minimise.", metavar="WHAT"),
    ] = "memory",
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
    with session.stored(config, store, collection) as opened, Bars() as bars:
        found = tune_index(
            opened.handle,
            slot,
            queries=texts,
            sample=sample,
            points=points,
            k=k,
            rule=Rule(recall, least),
            progress=bars,
        )
    write_json(document(found)) if as_json else show(found.display())


def search(
    session: Session,
    folder: JudgedFolder = None,
    config: ConfigOption = CONFIG,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    depth: Annotated[
        list[int] | None,
        option("Candidates of each slot; repeat for more. [default: 50 and 100]", metavar="N", min=10),
    ] = None,
    budget: Annotated[str | None, option("Longest median time of a query, such as 50ms.", metavar="TIME")] = None,
    synthetic: SyntheticOption = False,
    write: WriteOption = False,
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
    from diptych_lab.tune import ConfigChange, config_change, tune_search

    with session.collection(config, None, None) as opened, Bars() as bars:
        settings = session.config(config).evaluate
        asked, judged, made = judged_or_synthetic(
            opened, settings, folder, queries, qrels, synthetic=synthetic, write=write
        )
        found = tune_search(
            opened.handle, asked, judged, depths=depth or [], budget=_milliseconds(budget), progress=bars
        )
    change = config_change(config, found, session.registry) if found.passed else ConfigChange()
    show_tuned(found, change, synthetic=made, write=write, config=config, as_json=as_json)


def encoder(
    session: Session,
    folder: JudgedFolder = None,
    config: ConfigOption = CONFIG,
    queries: QueriesOption = None,
    qrels: QrelsOption = None,
    budget: Annotated[str | None, option("Longest median time of a query, such as 2ms.", metavar="TIME")] = None,
    max_bytes: Annotated[int | None, option("Most bytes of a vector that a search reads.", metavar="N", min=1)] = None,
    slot: DenseSlotOption = None,
    others: Annotated[
        list[str] | None,
        option("Also try this model, or ADAPTER=FOLDER; repeat for more.", "--with", metavar="FOLDER"),
    ] = None,
    width: Annotated[
        list[int] | None,
        option("Number of leading dimensions to keep; repeat for more. [default: 1/2 and 1/4]", metavar="N", min=1),
    ] = None,
    synthetic: SyntheticOption = False,
    write: WriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Try cheaper encoders and vectors: exits of the slot's model, students, shorter vectors, quantization.

    Documents and queries may have different encoders. The collection is only read.

    [dim]Examples:[/dim]

      diptych tune encoder --budget 2ms

      diptych tune encoder my-data --with ./runs/student --budget 2ms --max-bytes 200

      diptych tune encoder --budget 5ms --write && diptych plan && diptych apply
    """
    from diptych_lab.tune import ConfigChange, EncoderBudget, choices_of, edited, tune_encoder
    from diptych_lab.tune.index import slot_to_tune

    limits = EncoderBudget(_milliseconds(budget), max_bytes)
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
            progress=bars,
        )
    is_change = found.reached and found.chosen != found.present
    change = edited(config, session.registry, lambda raw: set_encoder(raw, found, config), ("slots", "search"))
    change = change if is_change else ConfigChange()
    show_tuned(found, change, synthetic=made, write=write, config=config, as_json=as_json)


def _milliseconds(budget: str | None) -> float | None:
    from diptych.config.section import require_duration

    return None if budget is None else 1000 * require_duration("the budget", budget, "--budget")


def judged_or_synthetic(
    opened: Collection,
    settings: EvaluateConfig,
    folder: Path | None,
    queries: Path | None,
    qrels: Path | None,
    *,
    synthetic: bool,
    write: bool,
) -> tuple[list[Query], Qrels, bool]:
    """The judged queries; if none are named, synthetic ones, each answered by the document that it was cut from.

    The last value says whether they are synthetic. Synthetic queries favour lexical slots, so a config is written from
    them only if `synthetic` is set.

    Raises:
        EvaluationError: judgements cannot be read, or a config is to be written without any.
    """
    if not synthetic and any((folder, queries, qrels, settings.queries, settings.qrels)):
        return *judged_queries(settings, folder, queries, qrels), False
    if write and not synthetic:
        do = "give a BEIR folder, or --queries and --qrels; or --synthetic to use synthetic queries"
        raise EvaluationError("no judged queries are named", where="--write", do=do)
    from diptych.evaluate import Qrels
    from diptych.swap import sample_documents, sample_points
    from diptych.types import Query

    view = opened.handle.now()
    sampled = sample_documents(view, sample_points(view.client, view.name, SAMPLE))
    documents = [own for own in sampled if own.item]
    made = [Query(own.excerpt, own.id) for own in documents]
    return made, Qrels({own.id: {own.id: 1} for own in documents}), True


def show_tuned(
    found: SearchReport | EncoderReport,
    change: ConfigChange,
    *,
    synthetic: bool,
    write: bool,
    config: Path,
    as_json: bool = False,
) -> None:
    """The best ways as a table, the verdict, and the change of the config that sets up the chosen one; writes it."""
    from diptych_lab.tune import write_config

    written = write and found.passed
    if written:
        write_config(config, change)
    if as_json:
        facts = {"synthetic": synthetic, "diff": change.diff, "written": change.keys if written else ""}
        return write_json({**document(found), "verdict": found.verdict, **facts})
    shown, tail = found.display(), list[str]()
    if written:
        gate = "" if found.fits else "; its gate knows no budget: if it refuses the loss, diptych apply --ignore-gate"
        tail = [f"wrote {change.keys} to {config}; to make it live: diptych plan, then diptych apply{gate}"]
    elif write:
        tail = [f"{config} stays as it is: no change passed, so nothing was written"]
    parts = (*shown.parts, *change.diff.splitlines(), *tail)
    return show(dataclasses.replace(shown, parts=parts, warnings=(SYNTHETIC,) if synthetic else ()))


def document(found: IndexReport | SearchReport | EncoderReport) -> dict[str, Any]:
    """The report as JSON values; each row with the config that sets it up, without options, which may hold secrets."""
    facts = _facts(found)
    slot = facts.get("slot", "")
    facts["rows"] = [_row(row, slot) for row in found.rows]
    if "choices" in facts:
        known = {name: (choice.adapter, choice.options.get("model")) for name, choice in facts["choices"].items()}
        facts["choices"] = {name: {"adapter": adapter, "model": model} for name, (adapter, model) in known.items()}
    if not isinstance(facts["chosen"], int):
        facts["chosen"] = _row(facts["chosen"], slot)
    return facts


def _row(row: Any, slot: str) -> dict[str, Any]:
    facts = _facts(row)
    if "setup" not in facts:
        return {**facts, "pipeline": row.name, "config": row.config()}
    setup = facts.pop("setup")
    return {**facts, "stored": setup.stored, "asked": setup.asked, "now": setup.now, "config": setup.config(slot)}


def _facts(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def set_encoder(raw: Any, found: EncoderReport, config: Path) -> str:
    """Put the chosen row into a config's mapping; returns the keys that it sets."""
    from diptych.training import relative

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


command(app, "index", index)
command(app, "search", search)
command(app, "encoder", encoder)
