"""`pretrain`: an encoder of pictures or clips learns without labels, by filling in what is hidden of them."""

from __future__ import annotations

from functools import cached_property, partial
from itertools import zip_longest
from operator import attrgetter
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from diptych.errors import ConfigError
from diptych.training import Registration, RelativePath
from diptych_experimental.pretraining.encoders import BODIES, EncoderShape, Policy
from diptych_experimental.pretraining.media import Unlabelled, contents_of, corrupted, read_unlabelled
from diptych_experimental.pretraining.models import (
    MaskedLoss,
    MaskedModule,
    ReconstructionEvaluator,
    Target,
    centre,
    masked_model,
)
from diptych_training.options import AboveZero, DocumentsOptions, Positive, RecipeOptions, Section, Share
from diptych_training.recipes.base import Training
from diptych_training.running import Fitted
from diptych_training.running.families import device
from diptych_training.running.run import HeldOutEvaluator

ITEMS = "items"
OF_ONE = {"image": ("size", "augment"), "video": ("size", "frames", "tubelet")}
SQUARES = ("encoder.size", "encoder.patch")
MULTIPLES = {  # of a modality, which sizes are multiples of which
    "image": [SQUARES],
    "video": [SQUARES, ("encoder.frames", "encoder.tubelet")],
}
COLLAPSED = 1e-4  # of the squared length of the mean vector; with less variance all vectors are nearly the same


class ItemsOptions(DocumentsOptions):
    """The items to learn from."""

    corpus: RelativePath | None = Field(None, description="A folder of files, or another source of `diptych populate`.")
    column: str | None = Field(
        None, description="Column or key with the media paths, if the corpus is not a folder; `media` by default."
    )
    share: Share = Field(0.1, description="Share of the items to hold out, for measuring the reconstruction.")

    @model_validator(mode="after")
    def _column_of_a_corpus(self) -> Self:
        if self.column is not None and self.corpus is None:
            raise ValueError("column needs corpus: leave it out")
        return self


class EncoderOptions(Section):
    """The encoder: ViT for pictures, VideoMAE for clips."""

    size: int = Field(48, ge=8, le=512, description="Side length in pixels to which pictures and frames are scaled.")
    patch: Positive = Field(8, description="Side length of a patch in pixels.")
    layers: Positive = Field(4, description="Transformer layers.")
    width: Positive = Field(96, description="Dimension of the tokens and of the vectors.")
    heads: Positive = Field(4, description="Attention heads.")
    frames: Positive = Field(8, description="Video: frames read per clip.")
    tubelet: Positive = Field(2, description="Video: frames per patch.")
    augment: float = Field(0.3, ge=0, le=2, description="Pictures: strength of rotation, colour change and blur.")

    def shape(self) -> EncoderShape:
        """The encoder's shape."""
        return EncoderShape(**self.model_dump(exclude={"augment"}))


class MaskOptions(Section):
    """What is hidden; see `diptych_experimental.pretraining.encoders`."""

    kind: Policy = Field(
        "random", description="random; disjoint: no patch is seen twice (DMJD); dual: some are rebuilt (VideoMAE V2)."
    )
    ratio: float = Field(0.75, gt=0, lt=1, description="Share of the patches to mask.")
    views: Positive | None = Field(None, description="Views per item and step; null is 2 with disjoint, else 1.")
    decoded: float = Field(0.5, gt=0, le=1, description="With dual: share of the masked patches to reconstruct.")

    def count(self) -> int:
        """Views of each item."""
        return self.views or (2 if self.kind == "disjoint" else 1)

    @model_validator(mode="after")
    def _for_dual(self) -> Self:
        if self.kind != "dual" and self.changed("decoded"):
            raise ValueError(f"decoded is for kind: dual, and this is {self.kind}: leave it out")
        return self


class TeacherOptions(Section):
    """A moving average of the encoder, whose vectors are learned beside the target."""

    kind: Literal["none", "ema", "clean"] = Field(
        "none", description="ema sees the whole item; clean too, and the encoder a corrupted one (QualityFM)."
    )
    momentum: float = Field(0.996, ge=0, lt=1, description="Momentum of the teacher; higher changes it more slowly.")
    corrupt: AboveZero = Field(0.5, description="With clean: strength of the corruption.")

    @model_validator(mode="after")
    def _for_clean(self) -> Self:
        if self.kind != "clean" and self.changed("corrupt"):
            raise ValueError(f"corrupt is for kind: clean, and this is {self.kind}: leave it out")
        return self


class DecoderOptions(Section):
    """The decoder, which is discarded after the training."""

    width: Positive = Field(64, description="Dimension of the decoder's tokens.")
    layers: Positive = Field(1, description="Layers of the decoder.")
    heads: Positive = Field(4, description="Attention heads of the decoder.")


class LossOptions(Section):
    """Weights of the loss; see `diptych_experimental.pretraining.models.MaskedLoss`."""

    visible: float | None = Field(None, ge=0, description="Weight of visible patches; null is 1 if disjoint, else 0.")
    vector: float = Field(1.0, ge=0, description="Weight of the distance to the teacher's vector.")


class PretrainOptions(RecipeOptions):
    """Options of `pretrain`."""

    model: Literal["new"] = Field("new", description="`new`: start with random weights.")
    of: Literal["image", "video"] = Field("image", description="What the encoder reads.")
    data: ItemsOptions
    encoder: EncoderOptions = Field(default_factory=EncoderOptions)
    mask: MaskOptions = Field(default_factory=MaskOptions)
    target: Target = Field("pixels", description="What to predict: hidden pixels, or a teacher's tokens.")
    teacher: TeacherOptions = Field(default_factory=TeacherOptions)
    decoder: DecoderOptions = Field(default_factory=DecoderOptions)
    loss: LossOptions = Field(default_factory=LossOptions)

    whole: ClassVar[str] = "does not go with masked items: leave it out"
    unprompted: ClassVar[str] = "are for texts"
    reads_texts: ClassVar[bool] = False

    def holds_out(self) -> bool:
        """Whether held-out items choose the checkpoint, which a target that moves with the teacher cannot."""
        return self.data.share > 0 and self.target != "features"

    def weight_of_visible(self) -> float:
        """The weight of the loss of visible patches."""
        return float(self.mask.kind == "disjoint") if self.loss.visible is None else self.loss.visible

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        others = {name for own in OF_ONE.values() for name in own} - {*OF_ONE[self.of]}
        if names := self.encoder.changed(*sorted(others)):
            raise ValueError(f"encoder.{names[0]} is not for of: {self.of}: leave it out")
        if self.target == "features" and self.teacher.kind == "none":
            raise ValueError("target: features needs a teacher: set teacher.kind to ema or clean")
        return self

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        pairs = [*MULTIPLES[self.of], ("encoder.width", "encoder.heads"), ("decoder.width", "decoder.heads")]
        for whole, part in pairs:
            size, piece, even = attrgetter(whole)(self), attrgetter(part)(self), whole.endswith("width")
            if size % piece or (even and size % 2):
                raise ValueError(f"{whole} {size} must be {'even and ' if even else ''}a multiple of {part} {piece}")
        return self

    @model_validator(mode="after")
    def _enough_patches(self) -> Self:
        encoder, mask = self.encoder, self.mask
        places = (encoder.size // encoder.patch) ** 2
        shown = round((1 - mask.ratio) * places)
        if not 0 < shown < places:
            raise ValueError(f"mask.ratio {mask.ratio} leaves {shown} of {places} patches visible: change it")
        if mask.kind == "disjoint" and mask.count() * shown > places:
            raise ValueError(
                f"{mask.count()} disjoint views of {shown} patches do not fit into {places}: lower views or raise ratio"
            )
        return self


class Pretrain(Training[PretrainOptions]):
    """Trains the encoder on items without labels."""

    name: ClassVar[str] = "pretrain"

    def data_steps(self) -> list[str]:
        """Read the items, and store what they are."""
        if self.folder.stored(ITEMS) is not None:
            return []
        items = self._items
        self.folder.store(ITEMS, items.digests())
        return [f"{len(items.items):,} items with {self.options.of} read"]

    def model(self) -> Any:
        """Encoder and decoder with random weights, in the form that the trainer takes."""
        options = self.options
        return masked_model(
            options.encoder.shape(),
            options.of,
            decoder=options.decoder.model_dump(),
            target=options.target,
            seen=options.weight_of_visible() > 0,
            vector=options.teacher.kind != "none" and options.loss.vector > 0,
            device=device(options.training.device),
        )

    def fit(self, model: Any) -> Fitted:
        """Train on a row for each picture or clip."""
        import datasets

        items, options, mask = self._split[0], self.options, self.options.mask
        rows = datasets.Dataset.from_dict({"query": [""] * len(items), "label": range(len(items))})
        module: MaskedModule = model[0]
        loss = MaskedLoss(
            model,
            partial(items.inputs, augment=options.encoder.augment),
            policy=mask.kind,
            ratio=mask.ratio,
            views=mask.count(),
            decoded=mask.decoded,
            target=options.target,
            teacher=options.teacher.kind,
            momentum=options.teacher.momentum,
            seen=options.weight_of_visible(),
            vector=options.loss.vector,
            corrupt=partial(corrupted, strength=options.teacher.corrupt, axes=module.body.axes),
        )
        fitted = self.fitted(model, rows, loss)
        varied = centre(model, items)
        if options.teacher.kind != "none" and varied < COLLAPSED:
            self.remarks.append(
                f"All items have nearly the same vector (variance {varied:.1e} of its length): the encoder collapsed. "
                "Take target: pixels, raise teacher.momentum, or lower loss.vector."
            )
        return fitted

    def evaluator(self) -> HeldOutEvaluator | None:
        """Fills in the held-out items."""
        held = self._split[1]
        return (
            ReconstructionEvaluator(held, self.options.mask.ratio) if self.options.holds_out() and len(held) else None
        )

    def export(self, model: Any) -> list[Registration]:
        """The encoder alone; its vectors are the mean of its tokens."""
        module: MaskedModule = model[0]
        body = module.body.eval().cpu()
        body.save(self.folder.path)
        options = {"modality": self.options.of, "model": str(self.folder.path), "pooling": "mean"}
        return [Registration("transformers-media", options, of=self.options.of)]

    @cached_property
    def _items(self) -> Unlabelled:
        """All items."""
        options, data = self.options, self.options.data
        self.watcher.begin(f"reading {options.of}", None)
        processor = BODIES[options.of](options.encoder.shape()).processor
        contents = contents_of(options.of, corpus=data.corpus, column=data.column, collection=data.collection)
        return read_unlabelled(options.of, contents, processor=processor, frames=options.encoder.frames)

    @cached_property
    def _split(self) -> tuple[Unlabelled, Unlabelled]:
        """The items to train on, and those held out.

        Raises:
            ConfigError: all are held out, or they are others than when they were prepared.
        """
        items, stored = self._items, self.folder.stored(ITEMS)
        digests = items.digests()
        if stored is not None and stored != digests:
            changed = next((a for a, b in zip_longest(digests, stored) if a != b), None)
            raise ConfigError(
                "the items have changed since they were prepared",
                where=self.folder.path,
                got=f"{changed['item'] if changed else stored[-1]['item']!r} changed, among {len(digests):,}",
                expected=f"the {len(stored):,} items of data/{ITEMS}.jsonl",
                do="delete the folder, or name another output",
            )
        split = items.split(self.options.data.share, self.options.seed)
        if not len(split[0]):
            got, do = f"all {len(items.items)} items held out", "lower data.share, or add items"
            raise ConfigError("no training items left", where="data", got=got, do=do)
        return split
