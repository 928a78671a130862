"""Writing to the terminal: readable for people, one JSON document for programs, plain when piped; bars and the log."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from diptych.display import PIPED_WIDTH, Display, json_text, say, write
from diptych.errors import DiptychError
from diptych.runtime.phases import watched

_drawing: list[Console] = []  # the consoles that draw bars at the moment


def stdout() -> Console:
    """The console of results. What users' documents say is never read as markup."""
    width = None if sys.stdout.isatty() else PIPED_WIDTH
    return Console(markup=False, emoji=False, highlight=False, width=width)


def stderr() -> Console:
    """The console of progress, warnings and errors; while bars are drawn, the one that draws them."""
    if _drawing:
        return _drawing[-1]
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


@contextmanager
def drawing(console: Console) -> Iterator[None]:
    """While this goes on, what is written to standard error goes through this console, above the bars that it draws."""
    _drawing.append(console)
    try:
        yield
    finally:
        _drawing.remove(console)


def show(shown: Display) -> None:
    """A display on standard output, its warnings on standard error."""
    write(shown, stdout())
    warn(shown.warnings)


def warn(warnings: Iterable[str]) -> None:
    """Each warning on standard error."""
    for warning in warnings:
        say(stderr(), f"warning: {warning}", "yellow")


def write_json(value: Any) -> None:
    """`value` as one JSON document; dataclasses, mappings and numbers of numpy are understood."""
    sys.stdout.write(json_text(value) + "\n")


def write_error(error: DiptychError, *, as_json: bool) -> None:
    """The error on standard error: what, where, got, expected, what to do; a terminal's lines end between words."""
    if as_json:
        sys.stderr.write(json_text({"error": error_document(error)}) + "\n")
        return
    first, *detail_lines = str(error).splitlines()
    say(stderr(), f"error: {first}", "bold red")
    for line in [*detail_lines, *(f"  {note}" for note in getattr(error, "__notes__", ()))]:
        say(stderr(), line)


def error_document(error: DiptychError) -> dict[str, Any]:
    """The error as JSON values: kind, what, where, got, expected, do, and the single problems of several."""
    names = ("what", "where", "got", "expected", "do")
    document: dict[str, Any] = {"kind": type(error).__name__}
    document |= {name: value for name in names if (value := getattr(error, name))}
    if notes := getattr(error, "__notes__", ()):
        document["notes"] = list(notes)
    problems = error.context.get("problems")
    if isinstance(problems, tuple):
        document["problems"] = [error_document(problem) for problem in problems]
    return document


NAMES = {
    "measure": "measuring",
    "read": "reading",
    "index": "encoding",
    "fill": "encoding",
    "build": "building",
    "ask": "asking",
}


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say on a terminal's standard error what is waited for, until it is over; nothing stays behind.

    Where a phase says what it is, that is shown instead.
    """
    console = stderr()
    if not console.is_terminal:
        yield
        return
    with drawing(console), console.status(text) as status, watched(lambda phase: status.update(phase or text)):
        yield


class Rate(ProgressColumn):
    """Documents per second, over the last seconds while running and over all at the end."""

    def render(self, task: Task) -> Text:
        """The rate, or nothing before there is one."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="dim")


class Count(MofNCompleteColumn):
    """How many of how many; nothing for what is not counted."""

    def render(self, task: Task) -> Text:
        """`3/10`."""
        return Text("") if task.total is None and not task.completed else super().render(task)


class Bars:
    """A `diptych.populate.Progress` that draws a bar for each stage. A context manager; silent without a terminal.

    Args:
        before: what is waited for before the first stage begins, such as encoders that are loaded.
        lines: whether a command without a terminal says each phase, and each tenth of a stage, in a line.
    """

    def __init__(self, before: str = "loading encoders", *, lines: bool = False) -> None:
        console = stderr()
        columns = (TextColumn("{task.description}"), BarColumn(30), Count(), Rate(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}
        self._console, self._stack = console, ExitStack()
        self._phase = self._bars.add_task(before, total=None)
        self._lines, self._said = lines and not console.is_terminal, set[str]()

    def __enter__(self) -> Self:
        self._stack.enter_context(drawing(self._console))
        self._stack.enter_context(watched(self._show))
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._show("")
        if kind is None:
            self._finish(*self._tasks)
        self._bars.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Draw nothing while the user is asked."""
        self._bars.stop()
        yield
        self._bars.start()

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts. Without a `total`, it expects what earlier stages have counted or expect."""
        self._show("")
        self._finish("measure")  # reads everything, so whatever begins next begins after it
        totals = [task.total for task in self._bars.tasks if task.total is not None and task.id != self._phase]
        expected = total if total is not None else max(totals, default=None)
        self._tasks[stage] = self._bars.add_task(NAMES.get(stage, stage), total=expected)

    def advance(self, stage: str, n: int) -> None:
        """`n` more documents are through the stage."""
        self._bars.advance(self._tasks[stage], n)
        task = self._bars.tasks[self._tasks[stage]]
        if self._lines and task.total:
            done = f"{int(10 * task.completed / task.total) * 10} %"
            self._say(f"{task.description} {task.total:,.0f} documents: {done}")

    def _show(self, phase: str) -> None:
        """Show below the bars what is done at the moment, nothing for ""; without a terminal say each phase once."""
        if self._lines and not any(phase.startswith(f"{said}: ") for said in self._said):  # no detail of a phase
            self._say(phase)
        self._bars.update(self._phase, description=phase, visible=bool(phase))

    def _say(self, text: str) -> None:
        if text and text not in self._said:
            self._said.add(text)
            say(self._console, f"{text} ...")

    def _finish(self, *stages: str) -> None:
        """Stop the clocks of stages that are over: what they expected is what came."""
        over = {self._tasks[stage] for stage in stages if stage in self._tasks}
        for task in self._bars.tasks:
            if task.id in over:
                self._bars.update(task.id, total=task.completed)
