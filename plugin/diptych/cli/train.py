"""`diptych train` trains an encoder or reranker by a recipe file, and lists how they can be trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.adapters import options_table
from diptych.cli.options import JsonOption, option, pairs_of
from diptych.cli.output import Bars, show, stderr, write_json
from diptych.cli.run_command import Session
from diptych.config.load import plain_values
from diptych.display import Display, Table, duration, say
from diptych.errors import ConfigError
from diptych.runtime import interrupts
from diptych.specs import RecipeSpec

if TYPE_CHECKING:
    from diptych.training import TrainReport

RESUME = "prepared data and checkpoints stay; the same command, with the same --set, continues"
BASELINES = {"first stage": "in the first stage's order", "before": "before training"}  # the first that was measured
REFUSED = (
    "until diptych apply has made the vectors anew, whatever opens {config} to search is refused, since another "
    "encoder made the vectors; what has it open goes on"
)
STUDENT = "until diptych apply has admitted the student, searches with {config} encode queries as before"
AT_ONCE = (
    "{place}: programs that open {config} from now on rerank by it, all others after diptych apply --config {config}"
)


class Watched(Bars):
    """Bars for the stages of a training, one after the other; sentences go to standard error."""

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts, and those before it are over."""
        self._show("")
        self._finish(*self._tasks)
        self._tasks[stage] = self._bars.add_task(stage, total=total)

    def say(self, sentence: str) -> None:
        """Something that a person wants to read while it runs."""
        say(stderr(), sentence)


def train(
    session: Session,
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="A YAML file with `recipe: NAME` and options.")
    ] = None,
    listed: Annotated[bool, option("List the recipes instead of training.", "--list")] = False,
    options: Annotated[
        str | None, option("Show the options of this recipe instead of training.", metavar="NAME")
    ] = None,
    changes: Annotated[
        list[str] | None,
        option("Replace an option of the file; repeat for more.", "--set", metavar="OPTION=VALUE"),
    ] = None,
    prepare: Annotated[
        bool, option("Only prepare the data: mine negatives, score with teachers, cluster.", "--prepare")
    ] = False,
    into: Annotated[Path | None, option("Put the trained model into this diptych.yaml.", metavar="CONFIG")] = None,
    slot: Annotated[str | None, option("With --into: the slot for the model, existing or new.")] = None,
    model: Annotated[
        str | None, option("With --into: the model, if there are several, such as exit_2.", metavar="NAME")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train an encoder or reranker. Run the same command again to continue after a kill.

    [dim]Examples:[/dim]

      diptych train --list

      diptych train --options contrastive

      diptych train recipe.yaml

      diptych train recipe.yaml --set training.epochs=1 --set seed=2 --set output=./runs/seed-2

      diptych train recipe.yaml --into diptych.yaml && diptych plan && diptych apply
    """
    if options is not None:
        from diptych.training import options_model

        spec = session.registry.recipes.get(options)
        schema = options_model(spec).model_json_schema()
        if as_json:
            return write_json({**_row(session, spec), "options": schema})
        return show(Display(f"{spec.name} ({spec.kind}): {spec.summary}", [options_table(flat_options(schema))]))
    if listed:
        rows = [_row(session, spec) for spec in session.registry.recipes.sorted()]
        listing = Table(("name", "kind", "what it trains", "from"), [[*row.values()] for row in rows])
        return write_json(rows) if as_json else show(Display("", [listing]))
    if recipe is None:
        raise ConfigError("no recipe file is named", do="diptych train RECIPE; diptych train --list lists recipes")
    report: TrainReport | None = None
    with interrupts.resumable(RESUME), Watched("reading the recipe") as bars:
        from diptych.config import check_adapters, load_config
        from diptych.training import Shown, load_recipe, slot_for

        recipe_file = load_recipe(
            recipe,
            session.registry,
            changes={name: plain_values(value) for name, value in pairs_of(changes or (), "--set", "seed=2")},
        )
        if into and model:  # which may be of another kind
            check_adapters(load_config(into), session.registry)
        elif into:
            slot_for(into, recipe_file.spec.kind, session.registry, slot=slot)
        training = recipe_file.make(bars)
        for sentence in training.prepare():
            bars.say(sentence)
        for line in training.prepared_examples() if prepare and isinstance(training, Shown) else ():
            bars.say(line)
        report = None if prepare else training.train()
    if report is None:
        return None
    place, is_student = put(report, into, slot, model, session) if into else ("", False)
    if as_json:
        return write_json({**dataclasses.asdict(report), "config": str(into or ""), "changed": place})
    return _show(report, into, place, is_student=is_student)


def _show(report: TrainReport, into: Path | None, place: str, *, is_student: bool) -> None:
    """Metrics before and after, what was made, and what to do next."""
    metrics = [*next(iter(report.measured.values()), ())]
    rows = [(metric, *(f"{values[metric]:.4f}" for values in report.measured.values())) for metric in metrics]
    measured = Table(("held-out data", *report.measured), rows, numbers=range(1, 9))
    resumed = f", from step {report.resumed_at} on" if report.resumed_at else ""
    lines = []
    for trained in report.models:
        options = ", ".join(f"{key}: {value}" for key, value in trained.section.items())
        lines.append(f"{trained.name or 'model'}: {{adapter: {trained.adapter}, {options}}}")
    if place:
        lines.append(f"changed {place} of {into}")
    if place.startswith("slots."):
        lines.append(f"next: diptych plan --config {into} && diptych apply --config {into}")
        lines.append((STUDENT if is_student else REFUSED).format(config=into))
    done = f"{report.recipe}: {report.steps:,} steps in {duration(report.seconds)}{resumed}"
    show(Display(done, [measured, *lines]))
    for remark in report.remarks:
        say(stderr(), remark, "yellow")


# `diptych train --into`: checks the config before anything is trained, and puts the trained model into it.


def put(report: TrainReport, config: Path, slot: str | None, model: str | None, session: Session) -> tuple[str, bool]:
    """Put a trained model into the config, whatever it was measured at; a doubt is said on standard error.

    Returns:
        The place in the config, and whether the model is the student of a slot, which leaves the slot's vectors.
    """
    from diptych.training import register

    chosen = next((trained for trained in report.models if model in (None, trained.name)), None)
    if chosen is None:
        names = ", ".join(trained.name or "(the main one)" for trained in report.models)
        raise ConfigError(f"the training made no model {model!r}", where="--model", expected=names)
    place = register(config, chosen, session.registry, slot=slot)
    at_once = AT_ONCE.format(place=place, config=config) if place.startswith("search.") else ""
    doubt_text = "" if chosen.name in report.measured else doubt(report)  # some models have figures of their own
    for sentence in filter(None, [doubt_text, at_once]):
        say(stderr(), sentence, "yellow")
    return place, chosen.queries


def doubt(report: TrainReport) -> str:
    """A warning if the held-out queries do not speak for the training; empty where they do, or without any."""
    metric, measured = report.chosen_by, report.measured
    baseline = next((name for name in BASELINES if metric in measured.get(name, {})), None)
    after = measured.get("after", {}).get(metric)
    if baseline is None or after is None or after > measured[baseline][metric]:
        return ""
    values = f"{metric} is {after:.4f} after training and {measured[baseline][metric]:.4f} {BASELINES[baseline]}"
    return f"warning: the held-out queries do not say that it got better: {values}"


def _row(session: Session, spec: RecipeSpec) -> dict[str, Any]:
    source = session.registry.recipes.source(spec.name)
    return {"name": spec.name, "kind": spec.kind, "summary": spec.summary, "source": source}


def flat_options(schema: dict[str, Any]) -> list[tuple[str, dict[str, Any], bool]]:
    """Every option of a JSON Schema with its dotted name, its facts and whether it is required."""
    return _flat(schema, schema, "")


def _flat(schema: dict[str, Any], root_schema: dict[str, Any], above: str) -> list[tuple[str, dict[str, Any], bool]]:
    """Every option with its dotted name, behind a row for its section where that is off unless given."""
    options: list[tuple[str, dict[str, Any], bool]] = []
    for name, facts in schema.get("properties", {}).items():
        parts = (facts, *facts.get("anyOf", ()), *facts.get("allOf", ()))  # a section alone, or beside null
        references = [part["$ref"].rpartition("/")[2] for part in parts if "$ref" in part]
        section = root_schema["$defs"][references[0]] if len(references) == 1 else {}
        if "properties" not in section:
            options.append((f"{above}{name}", facts, name in schema.get("required", [])))
        else:
            if facts.get("default", ...) is None:
                description = f"Off unless given. {facts.get('description', '')}".rstrip()
                options.append((f"{above}{name}", {"type": "section", "description": description}, False))
            options += _flat(section, root_schema, f"{above}{name}.")
    return options
