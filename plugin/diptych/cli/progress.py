"""Progress bars with rate and remaining time, on a terminal's standard error only."""

from __future__ import annotations

from types import TracebackType

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

NAMES = {"measure": "measuring", "read": "reading", "index": "encoding and writing"}


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
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
        self._bars = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._finish()
        self._bars.stop()

    def begin(self, stage: str, total: int | None) -> None:
        """A stage starts, with `total` documents when that is known."""
        self._tasks[stage] = self._bars.add_task(NAMES.get(stage, stage), total=total)

    def advance(self, stage: str, n: int) -> None:
        """`n` more documents are through the stage."""
        self._bars.advance(self._tasks[stage], n)

    def _finish(self) -> None:
        """Stop the clocks of stages whose number of documents was never known."""
        for task in self._bars.tasks:
            if task.total is None:
                self._bars.update(task.id, total=task.completed)
