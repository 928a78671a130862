"""Starts trainings and kills each: `kill_trainings.py WORLD RUNS RECIPE...`, a process a training, by SIGKILL.

A killed run has a checkpoint and stands some steps behind it. The processes are forks of this one, which has imported
everything and computed nothing, so that the imports are paid for once.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from diptych.plugins.factory import load_object
from every_recipe import REGISTRY, made, options_of
from tiny_training import Told

CHECKPOINTS = {"ar2": "round-1/round.json"}  # of the others the trainer's, whose last file this is:
WHOLE = "checkpoint-*/trainer_state.json"


class Hanging(Told):
    """A watcher that tells of the second step after a checkpoint, and lets the training go no further.

    Args:
        checkpoints: the folder of the run's checkpoints.
        pattern: of the file that makes a checkpoint whole.
        pipe: is told by one byte.
    """

    def __init__(self, checkpoints: Path, pattern: str, pipe: int) -> None:
        super().__init__()
        self.checkpoints, self.pattern, self.pipe, self.since = checkpoints, pattern, pipe, 0

    def advance(self, stage: str, n: int) -> None:
        """A step."""
        self.since += n if list(self.checkpoints.glob(self.pattern)) else 0
        if self.since >= 2:
            os.write(self.pipe, b"x")
            time.sleep(600)


def killed(recipe: str, world: Path, run: Path) -> bool:
    """Whether the training had come to a checkpoint, and not to its end, when it was killed."""
    read, write = os.pipe()
    process = os.fork()
    if not process:
        os.close(read)
        try:
            watcher = Hanging(run / "checkpoints", CHECKPOINTS.get(recipe, WHOLE), write)
            made(options_of(recipe, world, run), watcher).train()
        finally:
            os._exit(1)
    os.close(write)
    came = bool(os.read(read, 1))
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    os.close(read)
    return came


def main(world: str, runs: str, *recipes: str) -> None:
    """Kill them all; what did not come so far is named."""
    for recipe in recipes:
        load_object(REGISTRY.recipes.get(recipe).factory, recipe)
    late = [recipe for recipe in recipes if not killed(recipe, Path(world), Path(runs) / recipe)]
    if late:
        sys.exit(f"ended without being killed: {', '.join(late)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
