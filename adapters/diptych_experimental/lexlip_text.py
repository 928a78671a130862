"""`lexlip_text`: a lexicon of unit vectors, first through a bottleneck without queries, then against a momentum queue.

Luo et al., "LexLIP: Lexicon-Bottlenecked Language-Image Pre-Training", ICCV 2023, for text alone; see
docs/research/methods/lexlip_text.md.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

from pydantic import Field, model_validator
from sentence_transformers.sparse_encoder.callbacks.splade_callbacks import SpladeRegularizerWeightSchedulerCallback

from diptych.protocols import Kind
from diptych.training import Registration
from diptych_experimental.bottleneck import LexiconBottleneckLoss, Variant
from diptych_experimental.momentum import LexLIPLoss
from diptych_training.losses.flops import ActiveTerms
from diptych_training.models.lexicon import lexicon
from diptych_training.models.lexicon_head import blockwise
from diptych_training.options import AboveZero, Positive, RetrievalOptions, Section, Share, TrainingOptions
from diptych_training.recipes.common.base import RetrievalTraining
from diptych_training.recipes.splade import WHOLE
from diptych_training.running import Fitted, RunFolder

FIRST = "bottleneck"
Weight = Annotated[float, Field(ge=0)]
Ramp = Annotated[float, Field(gt=0, le=1)]


class FirstTrainingOptions(TrainingOptions):
    """Training options of the first phase."""

    epochs: AboveZero = Field(20.0, description="Passes over the documents.")


class BottleneckOptions(Section):
    """The first phase: masked words, through a few words of the lexicon. It sees the documents and no query."""

    encoder_masked: Share = Field(0.3, description="Share of a text's tokens masked for the encoder.")
    decoder_masked: Share = Field(0.5, description="Share of its tokens masked for the decoder.")
    decoder_layers: Positive = Field(2, description="Layers of the weak decoder, which is discarded.")
    variant: Variant = Field(
        "nested",
        description="nested: the decoder's masks include the encoder's, and it has its own head, as in LexMAE. "
        "released: as in LexLIP's code, see the method's page.",
    )
    training: FirstTrainingOptions = Field(default_factory=FirstTrainingOptions)


class LossOptions(Section):
    """The second phase; see `diptych_experimental.momentum.MomentumContrastiveLoss`."""

    tau: AboveZero = Field(0.05, description="Temperature: cosines are divided by it.")
    momentum: Share = Field(0.99, description="Momentum of the momentum encoder.")
    queue: Positive = Field(1024, description="Vectors of the momentum encoder to keep per side; 11,520 in the paper.")


class SparsityOptions(Section):
    """FLOPS of unit vectors, of both sides."""

    flops: Weight = Field(0.002, description="Weight of the FLOPS penalty.")
    ramp: Ramp = Field(0.3, description="Share of the steps in which the weight rises, by the square of the steps.")


class Options(RetrievalOptions):
    """Options of `lexlip_text`."""

    bottleneck: BottleneckOptions | None = Field(
        default_factory=BottleneckOptions, description="First phase (masked pre-training); null skips it."
    )
    loss: LossOptions = Field(default_factory=LossOptions)
    sparsity: SparsityOptions = Field(default_factory=SparsityOptions)

    whole: ClassVar[str] = WHOLE

    @model_validator(mode="after")
    def _first_whole(self) -> Self:
        if self.bottleneck is not None and self.bottleneck.training.mini_batch_size is not None:
            raise ValueError(f"bottleneck.training.mini_batch_size {WHOLE}")
        if self.bottleneck is not None and self.bottleneck.training.patience is not None:
            raise ValueError("bottleneck.training.patience: the first phase measures nothing, leave it out")
        return self


class LexLIPText(RetrievalTraining[Options]):
    """Trains a lexicon of unit vectors in two phases."""

    name: ClassVar[str] = "lexlip_text"
    kind: ClassVar[Kind] = "sparse"

    def data_steps(self) -> list[str]:
        """Train the first phase, then mine negatives with its model."""
        options = self.options.bottleneck
        if options is None or self.folder.stored(FIRST) is not None:
            return super().data_steps()
        steps = self.first_phase(options)
        self.folder.store(FIRST, [{"steps": steps}])
        sentence = f"the first phase took {steps:,} steps over {len(self.data.documents):,} documents"
        return [sentence, *super().data_steps()]

    def first_phase(self, options: BottleneckOptions) -> int:
        """Train the masked language model and save it in a folder of its own; returns the steps."""
        from transformers import set_seed

        set_seed(self.options.seed)
        model = lexicon(self.family.load(self.options.model, options.training, prompts=self.options.prompts))
        shares = options.model_dump(exclude={"training"})
        loss = LexiconBottleneckLoss(model, seed=self.options.seed, **shares)
        folder = RunFolder(FIRST, self.options.model_copy(update={"output": self._first}))
        fitted = self.fitted(model, self.texts(), loss, options=options.training, folder=folder, evaluator=None)
        model.save_pretrained(str(self._first), create_model_card=False)
        shutil.rmtree(folder.checkpoints, ignore_errors=True)
        return fitted.steps

    def texts(self) -> Any:
        """One column: the documents that have a text."""
        import datasets

        return datasets.Dataset.from_dict({"text": [text for text in self.data.documents.values() if text]})

    def model(self) -> Any:
        """The lexicon after the first phase, with vectors of unit length."""
        source = str(self._first) if self.folder.stored(FIRST) is not None else self.options.model
        loaded = self.family.load(source, self.options.training, prompts=self.options.prompts)
        return lexicon(loaded, normalize=True)

    def fit(self, model: Any) -> Fitted:
        """The second phase."""
        rows, loss = self.rows(), self.loss(model)
        ramp = SpladeRegularizerWeightSchedulerCallback(loss, warmup_ratio=self.options.sparsity.ramp)
        if self.folder.stored(FIRST) is not None:
            self.remarks.append("What was measured before is the model after its first phase.")
        with blockwise(model):  # and so is the twin, a copy of it
            return self.fitted(model, rows, loss, more_callbacks=[ramp, ActiveTerms(loss)])

    def loss(self, model: Any) -> Any:
        """Both directions against the slow copy's batch and queue, and FLOPS."""
        options = self.options.loss.model_dump()
        return LexLIPLoss(model, flops_weight=self.options.sparsity.flops, relevance=self.data.relevance(), **options)

    def export(self, model: Any) -> list[Registration]:
        """Save it for the adapter of masked language models."""
        (saved,) = super().export(model)
        return [Registration("splade", saved.options)]

    @property
    def _first(self) -> Path:
        return self.folder.path / FIRST
