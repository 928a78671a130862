"""`uni_encoder`: a reranker that reads a query once, with all its candidates in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from sentence_transformers import CrossEncoder

from diptych.protocols import Pair
from diptych.training import Registration
from diptych.types import Floats
from diptych_adapters.models import check_safe, resolve
from diptych_adapters.pipelines.library import load_transformer
from diptych_adapters.uni_encoder import SHORTEST, Attention, Settings, UniEncoder
from diptych_training.models.trained_module import TrainedModule
from diptych_training.options import Positive
from diptych_training.recipes import cross_encoder
from diptych_training.running.families import device, dropout


class LossOptions(cross_encoder.LossOptions):
    """The loss over the candidates of a query."""

    kind: Literal["listwise", "distill"] = Field(
        "listwise", description="listwise: softmax over a row. distill: a teacher's distribution over a row."
    )


class Options(cross_encoder.Options):
    """Options of `uni_encoder`."""

    attention: Attention = Field(
        "isolated",
        description="isolated: scores do not depend on other candidates, so a query is read once. arrow: the query "
        "sees its candidates. square: every token sees every other.",
    )
    query_length: Positive | None = Field(
        None, description="Maximum tokens of a query; null is half of training.max_length."
    )
    loss: LossOptions = Field(default_factory=LossOptions)

    unprompted: ClassVar[str] = "are not for uni_encoder, which reads pairs"
    refused: ClassVar[tuple[str, ...]] = (*cross_encoder.Options.refused, "training.mini_batch_size")

    @model_validator(mode="after")
    def _lengths(self) -> Self:
        self.settings()
        return self

    @model_validator(mode="after")
    def _no_pieces(self) -> Self:
        if self.training.mini_batch_size is not None:
            raise ValueError(
                "training.mini_batch_size is not for uni_encoder, which reads the candidates of a query together: "
                "leave it out, and make training.batch_size smaller"
            )
        return self

    def settings(self) -> Settings:
        """How the model reads."""
        length = self.training.max_length
        if length is None or length < 2 * SHORTEST:
            raise ValueError(f"training.max_length is at least {2 * SHORTEST} for uni_encoder: a query and a document")
        query_length = self.query_length or length // 2
        if query_length > length - SHORTEST:
            raise ValueError(f"query_length is at most training.max_length - {SHORTEST}, {length - SHORTEST} here")
        return Settings(attention=self.attention, max_length=length, query_length=query_length)


class UniEncoding(cross_encoder.CrossEncoding):
    """Trains a Uni-Encoder as `cross_encoder` trains a cross-encoder."""

    name: ClassVar[str] = "uni_encoder"
    options: Options

    def model(self) -> Any:
        """The transformer with a new head, or a Uni-Encoder that has one."""
        folder = resolve(self.options.model)
        check_safe(folder, trust_remote_code=False, allow_pickle_weights=False)
        transformer, tokenizer = load_transformer(
            "AutoModelForTokenClassification",
            folder,
            dtype="float32",  # autocast needs full-precision weights
            fresh_head=True,
            num_labels=1,
            **dropout(folder, self.options.training),
        )
        module = PairModule(UniEncoder(transformer, tokenizer, self.options.settings()))
        return Trainee(modules=[module], device=device(self.options.training.device), activation_fn=torch.nn.Identity())

    def export(self, model: Any) -> list[Registration]:
        """Save what the adapter `uni-encoder` serves."""
        model[0].encoder.save(self.folder.path)
        return [Registration("uni-encoder", {"model": str(self.folder.path)})]


class PairModule(TrainedModule):
    """A Uni-Encoder as the only module of a cross-encoder: pairs in, `scores` out."""

    def __init__(self, encoder: UniEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def preprocess(self, inputs: Sequence[Pair], **_: Any) -> dict[str, Any]:
        """The pairs as they are: which are one query's candidates decides how they are cut and read."""
        return {"pairs": inputs}

    def forward(self, features: dict[str, Any], **_: Any) -> dict[str, Any]:
        """The features with `scores`, `[n]`."""
        return {**features, "scores": self.encoder(features["pairs"])}


class Trainee(CrossEncoder):
    """A cross-encoder that scores all pairs of a query together when it is evaluated."""

    def predict(self, inputs: Sequence[Pair], **_: Any) -> Floats:  # type: ignore[override]  # of the library's ways one
        """Scores float32 `[n]` in the order of the pairs."""
        self.eval()
        with torch.inference_mode():
            return np.asarray(self(self.preprocess(list(inputs)))["scores"].float().cpu().numpy(), np.float32)
