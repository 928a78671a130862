"""`diptych judge`: grade the hits of pipelines, without knowing which found them, until their comparison is settled."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.padding import Padding
from rich.text import Text

from diptych.cli.options import CONFIG, ConfigsOption, JsonOption, QueriesOption, TenantOption, option
from diptych.cli.output import show, stderr, stdout, write_json
from diptych.cli.run_command import Session
from diptych.config.load import as_written
from diptych.display import Display, Table, printable, say
from diptych.errors import ConfigError, EvaluationError

if TYPE_CHECKING:
    from diptych import Collection
    from diptych.config import Config
    from diptych.evaluate.ask import Searched
    from diptych.types import Metadata
    from diptych_lab.judge import Judging, Kappa, Pooled, SecondJudging, Verdict

SHOWN, FACTS = 1500, 300  # characters of a document, and of its id and metadata
KEYS = "0 not relevant · 1 related · 2 relevant · 3 exact · s skip · u undo · q quit"
GRADES = {str(grade): grade for grade in range(4)}

FOLDER = Path("judgements")


def judge(
    session: Session,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder of the judgements.")] = FOLDER,
    config: ConfigsOption = None,
    queries: QueriesOption = None,
    only: Annotated[
        list[str] | None, option("Only this run, as evaluate names it; repeat for more.", metavar="RUN")
    ] = None,
    baseline: Annotated[
        str | None,
        option("The run to compare with; the first pipeline unless given.", metavar="RUN"),
    ] = None,
    metric: Annotated[
        str, option("A metric with a cutoff; that many hits of each pipeline are judged.", metavar="NAME")
    ] = "nDCG@10",
    sample: Annotated[int, option("Judge at most N queries, drawn at random.", metavar="N", min=2)] = 50,
    judge: Annotated[str, option("Your name as judge. [default: the user name]", metavar="NAME")] = "",
    confidence: Annotated[float, option("Confidence of the verdict.", min=0.5, max=0.999)] = 0.95,
    margin: Annotated[float, option("Smaller differences count as equal.", min=0, max=1)] = 0.0,
    general: Annotated[
        bool, option("Decide for all queries like these, not only for the judged ones.", "--general")
    ] = False,
    complete: Annotated[bool, option("Judge all queries, even after the comparison is settled.", "--all")] = False,
    again: Annotated[
        int, option("Grade N pairs that others have graded, to measure agreement.", metavar="N", min=0)
    ] = 0,
    model: Annotated[
        bool, option("Let the model of evaluate.judge continue, if it agrees with people.", "--model")
    ] = False,
    clicks: Annotated[
        Path | None,
        option('Make judgements of clicks: JSON lines with "query", "shown" and "clicked" ids.', metavar="LOG"),
    ] = None,
    power: Annotated[
        float | None,
        option("With --clicks: users look at rank r with probability (1/r)**P.", metavar="P", min=0),
    ] = None,
    least: Annotated[int, option("With --clicks: leave out queries shown fewer times.", metavar="N", min=1)] = 10,
    tenant: TenantOption = None,
    as_json: JsonOption = False,
) -> None:
    """Grade what two or more pipelines found, without seeing which found it, until their comparison is settled.

    Keys: 0 not relevant, 1 related, 2 relevant, 3 exactly what was asked for; s skips, u undoes, q quits. The same
    command continues later. `diptych evaluate FOLDER` reads the judgements. Where a swap is filled but not live yet,
    its new pipeline is judged, too.

    --clicks writes judged queries from a log, corrected for position bias: higher ranks are clicked more often. The
    bias is measured on documents that were shown at several ranks for the same query, or assumed with --power. A
    document's rank must not have depended on how relevant it was at that moment.

    [dim]Examples:[/dim]

      diptych judge --queries queries.jsonl

      diptych judge --config diptych.yaml --config other.yaml --sample 100

      diptych judge --judge bob --again 40

      diptych judge from-clicks --clicks log.jsonl && diptych evaluate from-clicks
    """
    if clicks is not None:
        return _by_clicks(clicks, folder, power, least, as_json)
    from diptych.cli.evaluate import labels, opened, runs_of
    from diptych.evaluate import cutoff, read_queries
    from diptych.evaluate.ask import answering, pipelines_of
    from diptych_lab.judge import Judgements, Judging, SecondJudging, agreements
    from diptych_lab.judge.judging import drawn

    configs = list(dict.fromkeys(config or [CONFIG]))
    settings = session.config(configs[0])
    path = queries or settings.evaluate.queries
    if path is None:
        do = "give --queries FILE, or set evaluate.queries in the config file"
        raise EvaluationError("there are no queries to judge", do=do)
    asked, name, judgements = drawn(read_queries(path), sample, 0), judge, Judgements(folder)
    try:
        name = name or getpass.getuser()
    except (KeyError, OSError, ImportError) as error:  # in a container without users
        raise EvaluationError("no user name is known", got=str(error), do="name the judge: --judge NAME") from error
    judgements.require_same(asked)
    with opened(session, configs) as collections:
        names = [collection.name for collection in collections]
        judgements.require_collections(names)
        texts, verdict = DocumentTexts(collections, tenant), None
        if again:
            known = [*asked, *judgements.queries()]
            judgements.note_collections(names)
            judge_all(SecondJudging(judgements, known, judge=name, count=again), texts)
        else:
            handles = (collection.handle for collection in collections)
            listed = pipelines_of(dict(zip(labels(configs), handles, strict=True)))
            chosen = _chosen(listed if only else answering(listed, asked), len(configs), only)
            if not only and len(collections) == 1:
                chosen |= _swapped(collections[0])
            runs = runs_of(chosen, asked, depth=cutoff(metric) or 10, tenant=tenant)
            judging = Judging(
                [*runs.values()], asked, judgements, judge=name, baseline=baseline, metric=metric,
                confidence=confidence, margin=margin, general=general, complete=complete,
            )  # fmt: skip
            judgements.note_collections(names)
            if model:
                _by_model(settings, session, judging, texts)
            else:
                judge_all(judging, texts)
            verdict = judging.verdict()
    is_written = bool(len(judgements.save(asked)))
    return _show(verdict, agreements(judgements), folder if is_written else None, as_json=as_json)


def _show(verdict: Verdict | None, kappas: Sequence[Kappa], folder: Path | None, *, as_json: bool) -> None:
    """The verdict, how well judges agree, and where the judgements are."""
    if as_json:
        facts = {**dataclasses.asdict(verdict), "settled": verdict.is_settled} if verdict else None
        return write_json({"verdict": facts, "agreements": [dataclasses.asdict(kappa) for kappa in kappas]})
    if verdict:
        show(verdict.display())
    if kappas:
        rows = [
            (" and ".join(own.judges), str(own.pairs), f"{own.same:.0%}", *(f"{value:.2f}" for value in values))
            for own in kappas
            for values in [(own.plain, own.linear, own.quadratic)]
        ]
        columns = ("judges", "pairs", "same", "kappa", "linear", "quadratic")
        show(Display("", [Table(columns, rows, numbers=range(1, 6))]))
    if folder:
        stdout().print(f"wrote {folder}; to read it: diptych evaluate {folder}", soft_wrap=True)
    return None


def _chosen(pipelines: dict[str, Searched], configs: int, only: Sequence[str] | None) -> dict[str, Searched]:
    """The named pipelines; else each config's whole pipeline, and with one config its single slots as well."""
    from diptych.evaluate.ask import choose

    if only:
        return choose(pipelines, only)
    last = {id(pipeline.view): name for name, pipeline in pipelines.items()}
    wholes = list(last.values())
    singles = [name for name, pipeline in pipelines.items() if not pipeline.pipeline.stages and name not in wholes]
    return choose(pipelines, wholes if configs > 1 else [*wholes, *singles])


def _swapped(collection: Collection) -> dict[str, Searched]:
    """The new pipeline of a swap under way, once its vectors are complete; the gate compares it next."""
    from diptych.config import SearchConfig
    from diptych.evaluate.ask import Searched
    from diptych.search import Pipeline
    from diptych.swap import status

    swap, state = collection.handle.read().swap, status(collection.handle).swap
    if swap is None or state is None or not state.filled:
        return {}
    view = collection.handle.at(swap.target, search=SearchConfig.model_validate(swap.search or {}))
    return {"after the swap": Searched(view, Pipeline.from_config(view.search_config, view.slots))}


def _by_model(settings: Config, session: Session, judging: Judging, texts: DocumentTexts) -> None:
    """Measure the configured model's agreement with people, then let it judge until the comparison is settled.

    Raises:
        ConfigError: no model is configured.
        EvaluationError: the agreement is below `least_kappa`.
    """
    from diptych_lab.judge import ModelJudge

    judge_config = settings.evaluate.judge
    if judge_config is None:
        do = "add evaluate.judge: {generator: chat, options: {base_url: ..., model: ...}} to the config file"
        raise ConfigError("no judging model is configured", do=do)
    options = {"least_kappa": judge_config.least_kappa}
    model = ModelJudge(judge_config.generator, judge_config.options, session.registry, **options)
    console, judgements = stderr(), judging.judgements
    console.print(model.description, soft_wrap=True)
    pairs = {name for grades in judgements.grades.values() for _, name in grades}
    agreement = model.agree(judgements, judging.queries, texts.of(pairs))
    console.print(f"agreement with people: kappa {agreement.kappa:.2f} over {agreement.pairs} pairs", soft_wrap=True)
    if not agreement.accepted:
        raise EvaluationError(
            "the model agrees too little with people, and its grades do not count",
            got=f"kappa {agreement.kappa:.2f} over {agreement.pairs} pairs",
            expected=f"at least {model.least_kappa:g}",
            do="judge yourself, try another model, or set evaluate.judge.least_kappa",
        )
    while pair := judging.next():
        of_query = [own for own in judging.pending if own[0].id == pair.query.id]
        model.judge(judgements, of_query, texts.of(name for _, name in of_query))


def _by_clicks(log: Path, folder: Path, power: float | None, least: int, as_json: bool) -> None:
    """Make judged queries from clicks."""
    from diptych_lab.judge import ClickLog, Propensities, judged_from_clicks, write_beir

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


class DocumentTexts:
    """Titles and texts of documents, from the first collection that has them.

    Args:
        collections: those that are searched.
        tenant: whose documents they are, in collections with tenants.
    """

    def __init__(self, collections: Sequence[Collection], tenant: str | None) -> None:
        self._collections, self._tenant = collections, tenant
        self._known: dict[str, str] = {}
        self._metadata: dict[str, Metadata] = {}

    def facts(self, document: str) -> str:
        """The id of a document whose text is known, and its metadata, in a line."""
        values = (f"{key}: {as_written(value)}" for key, value in self._metadata.get(document, {}).items())
        return " · ".join([document, *values])

    def of(self, ids: Iterable[str]) -> dict[str, str]:
        """The texts of these documents, by id; deleted documents are left out."""
        wanted = list(dict.fromkeys(ids))
        for collection in self._collections:
            if missing := [name for name in wanted if name not in self._known]:
                documents = collection.get(missing, tenant=self._tenant)
                self._known |= {document.id: f"{document.title}\n{document.text}".strip() for document in documents}
                self._metadata |= {document.id: document.metadata for document in documents}
        return {name: self._known[name] for name in wanted if name in self._known}


def judge_all(judging: Judging | SecondJudging, texts: DocumentTexts) -> None:
    """Show one pair after another and record the grades, until nothing is left to judge or the judge quits."""
    while pair := judging.next():
        _show_pair(pair, texts)
        key = _key()
        if key == "q":
            stderr().print("stopped; the same command continues here", style="dim")
            return
        if key == "u":
            if not judging.undo():
                stderr().print("there is nothing to undo", style="yellow")
        else:
            judging.record(pair, GRADES.get(key))


def _show_pair(pair: Pooled, texts: DocumentTexts) -> None:
    console = stderr()
    console.rule(f"query {pair.number} · {pair.left} documents left", style="dim")
    say(console, pair.query.text, "bold")
    text = texts.of([pair.document]).get(pair.document, "(the document has been deleted)")
    console.print(printable(texts.facts(pair.document), limit=FACTS), style="cyan", soft_wrap=True)
    lines = [printable(line) for line in text[:SHOWN].splitlines() if line.strip()]
    console.print(Padding(Text("\n".join(lines)), (0, 0, 0, 4)))
    console.print(KEYS, style="dim")


def _key() -> str:
    """The next key with a meaning; `q` at the end of the input."""
    import click

    is_terminal = sys.stdin.isatty()  # else a file or a pipe, which is read character by character
    with contextlib.suppress(EOFError):  # Ctrl-D
        while typed := click.getchar() if is_terminal else sys.stdin.read(1):
            for character in typed:  # several, if they were typed fast
                if character in GRADES or character in "suq":
                    return character
    return "q"
