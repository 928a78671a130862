"""`RunFolder`: where a training stores its options, prepared data, checkpoints and report.

| in the folder | what it is |
|---|---|
| `recipe.json` | the recipe's options; a folder belongs to one training once there is more in it |
| `data/` | what was prepared, as JSON lines and arrays |
| `checkpoints/` | of the run; gone when it is done |
| `log.jsonl`, `logs/` | losses and metrics by step; the latter for TensorBoard |
| `report.json` | the report, once it is done |
| everything else | the trained model, so that the folder itself is what a config names |
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar
from weakref import WeakValueDictionary

import numpy as np
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from diptych.errors import ConfigError
from diptych.training import Registration, TrainReport
from diptych.types import Floats
from diptych_training.options import RecipeOptions

RECIPE, REPORT, LOG = "recipe.json", "report.json", "log.jsonl"
SHOWN = 5  # options that the error names


class RunFolder:
    """The folder of one training; created if missing.

    Args:
        recipe: its name.
        options: with which it runs; their `output` is the folder.

    Raises:
        ConfigError: the folder holds another training or other files, or another process trains in it.
    """

    def __init__(self, recipe: str, options: RecipeOptions) -> None:
        self.path = options.output
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = Lock.on(self.path)
        settings = {"recipe": recipe, **options.model_dump(mode="json", exclude={"output"})}
        self._claim(settings, options)

    @property
    def checkpoints(self) -> Path:
        """The folder for the trainer's checkpoints."""
        return self.path / "checkpoints"

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint; incomplete ones, of a killed run, are deleted."""
        folders = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        complete = [path for path in folders if _is_complete(path)]
        for path in {*folders} - {*complete}:
            shutil.rmtree(path)
        return complete[-1] if complete else None

    def report(self) -> TrainReport | None:
        """The report of the run; None if it is not finished."""
        if not (self.path / REPORT).exists():
            return None
        raw = json.loads((self.path / REPORT).read_text("utf-8"))
        models = tuple(Registration(**model) for model in raw.pop("models"))
        return TrainReport(**{**raw, "models": models, "remarks": tuple(raw["remarks"])})

    def finish(self, report: TrainReport) -> TrainReport:
        """Store the report; the checkpoints are deleted."""
        self.write(REPORT, asdict(report))
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        return report

    def has_data(self) -> bool:
        """Whether anything was prepared."""
        return (self.path / "data").exists()

    def store(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write `data/<name>.jsonl`, all or nothing."""
        path = self.path / "data" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".new")
        with part.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        part.replace(path)
        return path

    def stored(self, name: str) -> list[dict[str, Any]] | None:
        """The rows stored under this name, None if there are none."""
        path = self.path / "data" / f"{name}.jsonl"
        if not path.exists():
            return None
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def store_array(self, name: str, array: Floats) -> None:
        """Write `data/<name>.npy`, all or nothing."""
        path = self.path / "data" / f"{name}.npy"
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".new.npy")
        np.save(part, array, allow_pickle=False)
        part.replace(path)

    def stored_array(self, name: str) -> Floats | None:
        """The array stored under this name, None if there is none."""
        path = self.path / "data" / f"{name}.npy"
        return np.load(path, allow_pickle=False) if path.exists() else None

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add a line to the log."""
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _claim(self, settings: dict[str, Any], options: RecipeOptions) -> None:
        file = self.path / RECIPE
        # Whether more than the options is stored: a run that ended before making anything does not bind the folder.
        if self.path.exists() and any(path.name not in (RECIPE, f"{RECIPE}.new") for path in self.path.iterdir()):
            if not file.exists():
                raise ConfigError(
                    "the folder is not empty and holds no training", where=self.path, do="name another output"
                )
            stored = _by_name(_with_defaults(json.loads(file.read_text("utf-8")), options))
            requested = _by_name(settings)
            changed = [name for name in {**stored, **requested} if stored.get(name) != requested.get(name)]
            trained = (self.path / REPORT).exists() or (self.checkpoints.exists() and any(self.checkpoints.iterdir()))
            later = () if trained else tuple(options.later())
            if fixed := [name for name in changed if name not in later and not name.startswith(later)]:
                told = [f"{name}: {stored.get(name)} there, {requested.get(name)} asked" for name in fixed[:SHOWN]]
                raise ConfigError(
                    "the folder holds another training",
                    where=self.path,
                    got="; ".join(told),
                    do="to continue it, repeat its options, also those given by --set; else delete it, or name "
                    "another output",
                )
            if changed:
                # Delete the log of other options, of which no checkpoint is left.
                (self.path / LOG).unlink(missing_ok=True)
                shutil.rmtree(self.path / "logs", ignore_errors=True)
        self.write(RECIPE, settings)

    def write(self, name: str, value: Any) -> None:
        """Write a value as a JSON file of this name, all or nothing."""
        part = self.path / f"{name}.new"
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
        part.replace(self.path / name)


class Lock:
    """Keeps other processes out of a folder for as long as the lock is referenced; within a process it is one."""

    _held: ClassVar[WeakValueDictionary[tuple[int, int], Lock]] = WeakValueDictionary()  # by device and inode

    def __init__(self, file: int) -> None:
        self._file = file

    @classmethod
    def on(cls, folder: Path) -> Lock:
        """The lock on a folder.

        Raises:
            ConfigError: another process has it.
        """
        file = os.open(folder, os.O_RDONLY)
        status = os.fstat(file)
        key = (status.st_dev, status.st_ino)
        if own := cls._held.get(key):
            os.close(file)
            return own
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(file)
            do = "wait until it is done, or name another output"
            raise ConfigError("another process trains in this folder", where=folder, do=do) from error
        cls._held[key] = lock = cls(file)
        return lock

    def __del__(self) -> None:
        os.close(self._file)


def _is_complete(checkpoint: Path) -> bool:
    """Whether a checkpoint is complete: the trainer writes its state last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _with_defaults(stored: Mapping[str, Any], options: BaseModel) -> dict[str, Any]:
    """The stored options, with defaults for options that the writing version did not have."""
    complete = dict(stored)
    for name, field in type(options).model_fields.items():
        value = getattr(options, name)
        if name not in complete and not field.is_required():
            complete[name] = to_jsonable_python(field.get_default(call_default_factory=True, validated_data={}))
        elif isinstance(value, BaseModel) and isinstance(complete.get(name), Mapping):
            complete[name] = _with_defaults(complete[name], value)
    return complete


def _by_name(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The options by their dotted names, such as `training.epochs`."""
    named: dict[str, Any] = {}
    for key, value in settings.items():
        inner = isinstance(value, Mapping) and value
        named |= _by_name(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return named
