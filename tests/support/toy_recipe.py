"""A recipe that trains nothing: it writes what it was asked into its folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from diptych import AdapterSpec, RecipeSpec, Registry, hookimpl
from diptych.testing import fakes_plugin
from diptych.testing.fakes import FakeDenseEncoder
from diptych.training import Registration, RelativePath, TrainReport, Watcher


class Inner(BaseModel):
    """A section."""

    model_config = ConfigDict(extra="forbid")
    epochs: float = Field(2.0, gt=0, description="Passes.")
    steps: int | None = Field(None, description="Instead.")

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.steps is not None and "epochs" in self.model_fields_set:
            raise ValueError("give epochs or steps, not both")
        return self


class Options(BaseModel):
    """Options of `toy`."""

    model_config = ConfigDict(extra="forbid")
    model: str = Field(description="What is trained.")
    output: RelativePath = Field(description="The folder of the run.")
    training: Inner = Inner()
    after: float = Field(0.5, description="nDCG@10 that training ends at.")

    @model_validator(mode="after")
    def _trained(self) -> Self:
        if self.model == "new" and self.training.steps == 0:
            raise ValueError("training.steps 0 is not for model new")
        return self


class Toy:
    """Prepares nothing and trains at once."""

    def __init__(self, options: Options, watcher: Watcher) -> None:
        self.options, self.watcher = options, watcher

    def prepare(self) -> list[str]:
        """A sentence."""
        return ["prepared nothing"]

    def train(self) -> TrainReport:
        """Write the model's name."""
        folder = Path(self.options.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.txt").write_text(self.options.model)
        self.watcher.begin("training", 1)
        self.watcher.advance("training", 1)
        models = (Registration("fake-dense", {"seed": 7}), Registration("fake-dense", {"seed": 8}, "small"))
        values = {"before": {"nDCG@10": 0.25}, "after": {"nDCG@10": self.options.after}}
        return TrainReport("toy", "dense", str(folder), models, measured=values, steps=1, remarks=("it is a toy",))


class ToyPictures(Toy):
    """The same of an encoder of pictures."""

    def train(self) -> TrainReport:
        """Nothing."""
        models = (Registration("colours", {"grid": 3}, of="image"),)
        return TrainReport("pictures", "dense", str(self.options.output), models)


class ToyStudent(Toy):
    """The same of a student, which makes the queries of a slot."""

    def train(self) -> TrainReport:
        """Nothing."""
        models = (Registration("fake-student", {"model": str(Path(self.options.output).resolve())}, queries=True),)
        return TrainReport("student", "dense", str(self.options.output), models)


class ToyReranker(Toy):
    """The same of a reranker, which had the first stage's order to better; it shows what it prepared."""

    def prepared_examples(self) -> list[str]:
        """A line."""
        return ["query q1: a toy"]

    def train(self) -> TrainReport:
        """Nothing."""
        values = {"first stage": {"nDCG@10": 1.0}, "before": {"nDCG@10": 0.1}, "after": {"nDCG@10": 0.2157}}
        models = (Registration("fake-reranker", {}),)
        return TrainReport("reranking", "reranker", str(self.options.output), models, measured=values)


def student(model: str) -> FakeDenseEncoder:
    """The student's adapter."""
    return FakeDenseEncoder()


def broken(options: Options, watcher: Watcher) -> Any:
    """A factory that fails."""
    raise RuntimeError("out of toys")


def spec(name: str = "toy", **changes: Any) -> RecipeSpec:
    """The spec of the toy."""
    given = {"kind": "dense", "factory": "toy_recipe:Toy", "options": "toy_recipe:Options", "summary": "Nothing."}
    return RecipeSpec(name=name, **{**given, **changes})


def registry(*specs: RecipeSpec, adapters: Any = fakes_plugin) -> Registry:
    """The fake adapters, unless others are given, that of a student, and these recipes."""
    student = AdapterSpec(name="fake-student", kind="dense", factory="toy_recipe:student", summary="A toy's queries.")
    plugin = SimpleNamespace(
        diptych_register_recipes=hookimpl(lambda: list(specs)),
        diptych_register_adapters=hookimpl(lambda: [student]),
        __name__="toys",
    )
    return Registry(adapters, plugin, installed=False)
