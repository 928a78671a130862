"""`diptych train`: train an encoder or reranker by a recipe file, and put it into a config."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diptych.cli.swap.swap_text import duration, say
from diptych.cli.train.install_model import REFUSED, Change, check, put
from diptych.cli.ui.options import DebugOption, JsonOption
from diptych.cli.ui.output import stderr, stdout, table, write_json
from diptych.cli.ui.progress import Bars
from diptych.cli.ui.session import Session
from diptych.errors import ConfigError

if TYPE_CHECKING:
    from diptych.training import TrainReport


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
    context: typer.Context,
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file with `recipe: NAME` and options.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="OPTION=VALUE", help="Replace an option of the file; again for more."),
    ] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Do the data steps only: mine negatives, ask teachers, cluster.")
    ] = False,
    into: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="Put the trained model into this diptych.yaml.")
    ] = None,
    slot: Annotated[str | None, typer.Option(help="With --into: the slot it is for, or a new one.")] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --into: which of several models, such as exit_2.")
    ] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train an encoder or reranker; what was killed goes on where it stood when the same command is given again.

    [dim]Examples:[/dim]

      diptych train recipe.yaml

      diptych train recipe.yaml --set training.epochs=1 --set seed=2 --set output=./runs/seed-2

      diptych train recipe.yaml --into diptych.yaml && diptych plan && diptych apply
    """
    session: Session = context.obj
    report: TrainReport | None = None
    with Watched("reading the recipe") as bars:
        from diptych.training import Shown, load_recipe

        read = load_recipe(recipe, session.registry, changes=_changes(changes or ()))
        check(into, None if model else read.spec.kind, slot, session)
        made = read.make(bars)
        for sentence in made.prepare():
            bars.say(sentence)
        for line in made.prepared_examples() if prepare and isinstance(made, Shown) else ():
            bars.say(line)
        report = None if prepare else made.train()
    if report is None:
        return None
    change = put(report, into, slot, model, session) if into else None
    if as_json:
        return write_json(
            {**dataclasses.asdict(report), "config": str(into or ""), "changed": change.place if change else ""}
        )
    _show(report)
    return _show_next(report, into, change)


def _changes(given: list[str] | tuple[()]) -> dict[str, Any]:
    """`training.epochs=1` as a name and a value, read as YAML reads it."""
    from ruamel.yaml import YAML

    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise ConfigError("this replaces no option", where="--set", got=repr(text), expected="OPTION=VALUE")
        found[name] = YAML(typ="safe", pure=True).load(value)
    return found


def _show(report: TrainReport) -> None:
    """Metrics before and after, and what was made."""
    console = stdout()
    if report.measured:
        listing = table("held-out queries", *report.measured)
        for metric in next(iter(report.measured.values())):
            listing.add_row(metric, *(f"{values[metric]:.4f}" for values in report.measured.values()))
        console.print(listing)
    resumed = f", from step {report.resumed_at} on" if report.resumed_at else ""
    say(console, f"{report.recipe}: {report.steps:,} steps in {duration(report.seconds)}{resumed}")
    for remark in report.remarks:
        say(stderr(), remark, "yellow")


def _show_next(report: TrainReport, into: Path | None, change: Change | None) -> None:
    console = stdout()
    for found in report.models:
        options = ", ".join(f"{key}: {value}" for key, value in found.options.items())
        say(console, f"{found.name or 'model'}: {{adapter: {found.adapter}, {options}}}")
    if change:
        say(console, f"changed {change} of {into}")
    if change and not change.at_once:
        say(console, f"next: diptych plan --config {into} && diptych apply --config {into}")
        say(console, REFUSED.format(config=into))
