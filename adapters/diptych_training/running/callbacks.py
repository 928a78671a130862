"""Reports a training while it runs: to a watcher, the log and TensorBoard."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeAlias

from transformers import TrainerCallback

from diptych.training import Watcher
from diptych_training.running.folder import RunFolder

STAGE = "training"
Draw: TypeAlias = Callable[[str, Mapping[str, Any], int], None]  # the group of curves, a value of each, and the step


class ProgressCallback(TrainerCallback):
    """Reports each step and each evaluation to the watcher, and logs a line for each in the folder.

    Args:
        watcher: receives the reports.
        folder: of the run.
        metric: the trainer's name of the metric that chooses the best checkpoint.
        model: which of several models is trained; "" for a single one.
        behind: its steps in earlier trainings of the run.
        draw: called with the logged values and the step.
    """

    def __init__(
        self,
        watcher: Watcher,
        folder: RunFolder,
        metric: str | None,
        *,
        model: str = "",
        behind: int = 0,
        draw: Callable[[Mapping[str, Any], int], None] | None = None,
    ) -> None:
        self.watcher, self.folder, self.metric, self.draw = watcher, folder, metric, draw
        self.stage, self.behind = f"{STAGE} the {model}" if model else STAGE, behind
        self.entry = {"model": model} if model else {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the number of steps, and how many an earlier run has done."""
        if state.global_step:
            self.watcher.say(f"goes on from step {state.global_step} of {state.max_steps}")
        self.watcher.begin(self.stage, state.max_steps)
        self.watcher.advance(self.stage, state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report a step."""
        self.watcher.advance(self.stage, 1)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write a line to the log."""
        plain = {key: value for key, value in kwargs["logs"].items() if isinstance(value, int | float | str)}
        step = self.behind + state.global_step
        self.folder.log({"step": step, **self.entry, **plain})
        if self.draw is not None:
            self.draw(plain, step)

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Report the model's value on what is held out."""
        value = kwargs["metrics"].get(self.metric)
        if value is not None:
            name, best = str(self.metric).removeprefix("eval_"), max(value, state.best_metric or value)
            self.watcher.say(f"step {state.global_step}: {name} {value:.4f} on what is held out, best {best:.4f}")


class LastOfEqual(TrainerCallback):
    """Lets the last of several checkpoints with equal values be the best, since the first may be almost untrained.

    It must come after early stopping, for which an equal value is no gain.

    Args:
        metric: the trainer's name of what the best checkpoint is chosen by.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Lower the best value slightly, so that the trainer takes an equal value for a better one."""
        if kwargs["metrics"].get(self.metric) == state.best_metric is not None:
            state.best_metric = math.nextafter(state.best_metric, -math.inf)


def callbacks(watcher: Watcher, folder: RunFolder, metric: str | None, patience: int | None) -> list[Any]:
    """All callbacks of a training; TensorBoard's where its writer is installed."""
    from transformers import EarlyStoppingCallback

    all_callbacks: list[Any] = [ProgressCallback(watcher, folder, metric)]
    if patience is not None and metric is not None:
        all_callbacks.append(EarlyStoppingCallback(early_stopping_patience=patience))
    if metric is not None:
        all_callbacks.append(LastOfEqual(metric))
    if importlib.util.find_spec("tensorboardX"):
        from transformers.integrations.integration_utils import TensorBoardCallback

        all_callbacks.append(TensorBoardCallback(tb_writer=_writer(folder)))
    return all_callbacks


@contextmanager
def drawing(folder: RunFolder) -> Iterator[Draw]:
    """Draws curves `group/name` for TensorBoard into the run's `logs`, those of trainings that follow each other.

    Nothing is drawn where TensorBoard's writer is not installed.
    """
    if not importlib.util.find_spec("tensorboardX"):
        yield lambda group, values, step: None
        return
    with _writer(folder) as writer:

        def draw(group: str, values: Mapping[str, Any], step: int) -> None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    writer.add_scalar(f"{group}/{name}", value, step)
            writer.flush()

        yield draw


def _writer(folder: RunFolder) -> Any:
    """TensorBoard's writer, to a file of its own: those that begin within a second have the same name else."""
    from tensorboardX import SummaryWriter

    return SummaryWriter(logdir=str(folder.path / "logs"), filename_suffix=f".{time.time_ns()}")
