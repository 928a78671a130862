"""`RunFolder`: where a training stores its options, prepared data, checkpoints and report.

| in the folder | what it is |
|---|---|
| `recipe.json` | the recipe's options; a folder belongs to one training once there is more in it |
| `data/` | what was prepared, as JSON lines |
| `checkpoints/` | of the run; gone when it is done |
| `log.jsonl`, `logs/` | losses and metrics by step; the latter for TensorBoard |
| `report.json` | the report, once it is done |
| everything else | the trained model, so that the folder itself is what a config names |
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from diptych.errors import ConfigError
from diptych.training import Registration, TrainReport
from diptych_training.options import RecipeOptions

ASKED, REPORT, LOG = "recipe.json", "report.json", "log.jsonl"


class RunFolder:
    """The folder of one training; created if missing.

    Args:
        recipe: its name.
        options: with which it runs; their `output` is the folder.

    Raises:
        ConfigError: the folder holds another training, or files that are no training's.
    """

    def __init__(self, recipe: str, options: RecipeOptions) -> None:
        self.path = options.output
        asked = {"recipe": recipe, **options.model_dump(mode="json", exclude={"output"})}
        self._claim(asked, options)

    @property
    def checkpoints(self) -> Path:
        """The folder for the trainer's checkpoints."""
        return self.path / "checkpoints"

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint; incomplete ones, of a killed run, are deleted."""
        found = sorted(self.checkpoints.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
        whole = [path for path in found if _is_whole(path)]
        for path in {*found} - {*whole}:
            shutil.rmtree(path)
        return whole[-1] if whole else None

    def report(self) -> TrainReport | None:
        """The report of a finished run."""
        return self.reported(self.path)

    @staticmethod
    def reported(folder: Path) -> TrainReport | None:
        """The report of the run in any folder; None if it is not finished."""
        if not (folder / REPORT).exists():
            return None
        raw = json.loads((folder / REPORT).read_text("utf-8"))
        models = tuple(Registration(**found) for found in raw.pop("models"))
        return TrainReport(**{**raw, "models": models, "remarks": tuple(raw["remarks"])})

    def take_over(self, other: Path) -> TrainReport:
        """Copy the results of a finished run, model included; its report gets the paths of this folder."""
        report = self.reported(other)
        assert report is not None
        shutil.copytree(other, self.path, ignore=shutil.ignore_patterns(ASKED, REPORT), dirs_exist_ok=True)
        return replace(report, folder=str(self.path), models=tuple(self._here(own, report) for own in report.models))

    def finish(self, report: TrainReport) -> TrainReport:
        """Store the report; the checkpoints are deleted."""
        self._write(REPORT, asdict(report))
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        return report

    def keep(self, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
        """Write `data/<name>.jsonl`, all or nothing."""
        path = self.path / "data" / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        beside = path.with_suffix(".new")
        with beside.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        beside.replace(path)
        return path

    def keep_prepared(self, other: Path, last: str) -> None:
        """Copy another run's data; the rows of this name once all others are there."""
        data = other / "data"
        shutil.copytree(data, self.path / "data", ignore=shutil.ignore_patterns(f"{last}.jsonl"), dirs_exist_ok=True)
        self.keep(last, self.rows(other, last) or [])

    def kept(self, name: str) -> list[dict[str, Any]] | None:
        """The rows stored under this name, None if there are none."""
        return self.rows(self.path, name)

    @staticmethod
    def rows(folder: Path, name: str) -> list[dict[str, Any]] | None:
        """The rows stored under this name in any run's folder; None if there are none."""
        path = folder / "data" / f"{name}.jsonl"
        return list(_lines(path)) if path.exists() else None

    def log(self, entry: Mapping[str, Any]) -> None:
        """Add a line to the log."""
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def _here(self, model: Registration, report: TrainReport) -> Registration:
        """A model in another folder's report, as one of this folder."""

        def moved(value: object) -> object:
            inside = isinstance(value, str) and Path(value).is_relative_to(report.folder)
            return str(self.path / Path(str(value)).relative_to(report.folder)) if inside else value

        return replace(model, options={name: moved(value) for name, value in model.options.items()})

    def _claim(self, asked: dict[str, Any], options: RecipeOptions) -> None:
        there = self.path / ASKED
        if self._holds_more():
            if not there.exists():
                raise ConfigError(
                    "the folder is not empty and no training's", where=self.path, do="name another output"
                )
            found = _filled(json.loads(there.read_text("utf-8")), options)
            self._compare(found, asked, frozenset() if self._begun() else options.later())
            if found != asked:
                self._forget_log()
        self.path.mkdir(parents=True, exist_ok=True)
        self._write(ASKED, asked)

    def _compare(self, found: dict[str, Any], asked: dict[str, Any], later: frozenset[str]) -> None:
        one, other = _without(found, later), _without(asked, later)
        if one != other:
            raise ConfigError(
                "the folder holds another training",
                where=self.path,
                got=_difference(one, other),
                do="delete it, or name another output",
            )

    def _holds_more(self) -> bool:
        """Whether more than the options is stored: a run that ended before making anything does not bind the folder."""
        return self.path.exists() and any(path.name not in (ASKED, f"{ASKED}.new") for path in self.path.iterdir())

    def _begun(self) -> bool:
        """Whether weights were trained, and not only data prepared."""
        kept = self.checkpoints.exists() and any(self.checkpoints.iterdir())
        return kept or (self.path / REPORT).exists()

    def _forget_log(self) -> None:
        """Delete the log of other options, of which no checkpoint is left."""
        (self.path / LOG).unlink(missing_ok=True)
        shutil.rmtree(self.path / "logs", ignore_errors=True)

    def _write(self, name: str, value: Any) -> None:
        beside = self.path / f"{name}.new"
        beside.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")
        beside.replace(self.path / name)


def _is_whole(checkpoint: Path) -> bool:
    """Whether a checkpoint is complete: the trainer writes its state last."""
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from (json.loads(line) for line in file)


def _filled(found: Mapping[str, Any], options: BaseModel) -> dict[str, Any]:
    """The stored options, with defaults for options that the writing version did not have."""
    filled = dict(found)
    for name, field in type(options).model_fields.items():
        own = getattr(options, name)
        if name not in filled and not field.is_required():
            filled[name] = to_jsonable_python(field.get_default(call_default_factory=True, validated_data={}))
        elif isinstance(own, BaseModel) and isinstance(filled.get(name), Mapping):
            filled[name] = _filled(filled[name], own)
    return filled


def _without(asked: Mapping[str, Any], names: Collection[str], above: str = "") -> dict[str, Any]:
    """The stored options without these options or sections: `training.epochs`."""
    kept = {key: value for key, value in asked.items() if f"{above}{key}" not in names}
    return {
        key: _without(value, names, f"{above}{key}.") if isinstance(value, Mapping) else value
        for key, value in kept.items()
    }


def _difference(found: Mapping[str, Any], asked: Mapping[str, Any], above: str = "") -> str:
    """The first option in which two trainings differ: `training.epochs: 2 there, 3 asked`."""
    for key in {**found, **asked}:
        one, other = found.get(key), asked.get(key)
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            if inner := _difference(one, other, f"{above}{key}."):
                return inner
        elif one != other:
            return f"{above}{key}: {one} there, {other} asked"
    return ""
