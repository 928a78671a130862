"""Progress bars with rate and remaining time, on a terminal's standard error only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import TracebackType
from typing import Self

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

from diptych.cli.output import stderr

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
    """Say on a terminal's standard error what is waited for, until it is over; nothing stays behind."""
    console = stderr()
    with console.status(text) if console.is_terminal else nullcontext():
        yield


class Rate(ProgressColumn):
    """Documents per second, over the last seconds while running and over all at the end."""

    def render(self, task: Task) -> Text:
        """The rate, or nothing before there is one."""
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f}/s" if speed else "", style="dim")


class Bars:
    """A `diptych.populate.Progress` that draws a bar for each stage. A context manager; silent without a terminal."""

    def __init__(self) -> None:
        console = stderr()
        columns = (TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish(*self._tasks)
        self._bars.stop()

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts. Without a `total`, it expects what earlier stages have counted or expect."""
        self._finish("measure")  # reads everything, so whatever begins next begins after it
        known = [task.total for task in self._bars.tasks if task.total is not None]
        expected = total if total is not None else max(known, default=None)
        self._tasks[stage] = self._bars.add_task(NAMES.get(stage, stage), total=expected)

    def advance(self, stage: str, n: int) -> None:
        """`n` more documents are through the stage."""
        self._bars.advance(self._tasks[stage], n)

    def _finish(self, *stages: str) -> None:
        """Stop the clocks of stages that are over: what they expected is what came."""
        over = {self._tasks[stage] for stage in stages if stage in self._tasks}
        for task in self._bars.tasks:
            if task.id in over:
                self._bars.update(task.id, total=task.completed)
