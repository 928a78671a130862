"""`student`: a small model learns to make the queries of an encoder whose index stays."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from diptych.protocols import TEACHER_FILE
from diptych.training import Registration
from diptych_training.losses.student import StudentLoss
from diptych_training.models.student import first_layers, static_student
from diptych_training.options import AboveZero, Positive, Section
from diptych_training.recipes.common.learned_vectors import LearningVectors, VectorOptions


class StudentOptions(Section):
    """What kind of model the student is."""

    kind: Literal["layers", "static"] = Field(
        "layers", description="layers: the first of the model's own; static: a vector a token, and their mean."
    )
    layers: Positive = Field(1, description="How many, of kind layers.")


class LossOptions(Section):
    """Options of the loss; see `diptych_training.losses.student.StudentLoss`."""

    weight: float = Field(0.5, ge=0, description="Of the divergence of what the student finds within a batch.")
    tau: AboveZero = Field(0.05, description="Temperature of that divergence.")


class Options(VectorOptions):
    """Options of `student`."""

    student: StudentOptions = Field(default_factory=StudentOptions)
    loss: LossOptions = Field(default_factory=LossOptions)

    whole: ClassVar[str] = "does not go with a student: leave it out"


class Student(LearningVectors[Options]):
    """Trains a dense encoder of queries on another encoder's vectors."""

    name: ClassVar[str] = "student"

    def model(self) -> Any:
        """The student before it is trained."""
        student, model = self.options.student, super().model()
        if student.kind == "layers":
            return first_layers(model, student.layers)
        return static_student(model, self.teacher.encode_query, self.learned_texts())

    def check_model(self) -> None:
        """Refuse a number of layers that the model does not have."""
        if self.options.student.kind == "layers":
            first_layers(super().model(), self.options.student.layers)

    def loss(self, model: Any) -> Any:
        """The student's, of the vectors that the teacher made."""
        import torch

        return StudentLoss(model, torch.from_numpy(self.learned_vectors()), **self.options.loss.model_dump())

    def export(self, model: Any) -> list[Registration]:
        """The student, and for whose index it is."""
        super().export(model)
        fingerprint = self.teacher.fingerprint
        self.folder.write(TEACHER_FILE, {"documents": fingerprint.documents or fingerprint.space})
        adapter = "static" if self.options.student.kind == "static" else self.family.adapter
        return [Registration(adapter, {"model": str(self.folder.path)}, queries=True)]
