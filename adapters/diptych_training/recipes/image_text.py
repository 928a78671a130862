"""`image_text`: a small network learns a frozen text encoder's vectors, and which words a picture shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, model_validator

from diptych.errors import ConfigError
from diptych.protocols import DenseEncoder
from diptych.training import Registration, RelativePath
from diptych.types import Floats
from diptych_adapters.image_text.encoders import space_of, text_encoder
from diptych_adapters.image_text.network import (
    ImageTextModel,
    ImageTextNetwork,
    TowerShape,
    words_of,
)
from diptych_adapters.image_text.transformer import TransformerBody, shape_of
from diptych_adapters.models import resolve
from diptych_training.data.pictures import Pictures, read_pictures
from diptych_training.losses.image_text import ImageTextLoss
from diptych_training.models.image_text import ByName, ImageTextModule, shell
from diptych_training.options import AboveZero, Positive, RecipeOptions, Section, Share
from diptych_training.recipes.common.base import Training
from diptych_training.running import Fitted
from diptych_training.running.evaluation import HeldOut
from diptych_training.running.families import device

VECTORS, TEXTS = "vectors.npy", "texts"
BATCH = 256  # texts that are encoded at a time
STEEP, NEAR = 10.0, 0.4  # of the lexicon's text side at first: a word's logit is STEEP (cosine - NEAR)


class PicturesOptions(Section):
    """The pictures for training and for evaluation."""

    items: RelativePath = Field(description='JSON lines `{"image", "texts", "group"?}`, or CSV with these columns.')
    held_out: RelativePath | None = Field(
        None, description="Pictures for evaluation, in such a file: by another artist, camera or shop."
    )
    share: Share = Field(0.1, description="Without held_out: share of the groups that is held out; 0 holds out none.")
    first: Share = Field(0.5, description="How often the text that is drawn for a picture is its first.")


class TextOptions(Section):
    """The frozen text encoder."""

    adapter: str = Field("sentence-transformers", description="A registered dense encoder.")
    options: dict[str, Any] = Field(
        default_factory=dict, description="Its options; `model` is the recipe's unless set."
    )


class ImageOptions(Section):
    """The network and the pictures that it gets."""

    size: int = Field(48, ge=16, le=512, description="Pixels a side to which pictures are scaled.")
    width: Positive = Field(32, description="Channels of the first layer; three stages double them.")
    start: RelativePath | None = Field(
        None, description="Folder of a picture encoder of recipe `pretrain` to begin with, which brings size and width."
    )
    augment: float = Field(0.6, ge=0, le=2, description="Strength of the augmentation: turning, recolouring, blurring.")

    @model_validator(mode="after")
    def _shape_of_the_start(self) -> Self:
        if self.start is not None and (names := {"size", "width"} & self.model_fields_set):
            raise ValueError(f"{min(names)} is that of start: leave it out")
        return self


class LexiconOptions(Section):
    """The second head, over words."""

    weight: AboveZero = Field(1.0, description="Weight of its losses; the dense head's is 1.")
    words: Positive = Field(20_000, description="Most words of the lexicon: those of the most groups.")
    flops: float = Field(0.002, ge=0, description="Weight of FLOPS, which keeps vectors sparse.")
    ramp: Share = Field(0.3, description="Share of the steps in which that weight rises.")


class LossOptions(Section):
    """Options of the losses; see `diptych_training.losses.image_text.ImageTextLoss`."""

    tau: AboveZero = Field(0.07, description="Initial temperature; it is trained.")


class Options(RecipeOptions):
    """Options of `image_text`."""

    data: PicturesOptions
    text: TextOptions = Field(default_factory=TextOptions)
    image: ImageOptions = Field(default_factory=ImageOptions)
    lexicon: LexiconOptions | None = Field(default_factory=LexiconOptions, description="null trains none.")
    loss: LossOptions = Field(default_factory=LossOptions)

    whole: ClassVar[str] = "does not go with pictures: leave it out"
    unprompted: ClassVar[str] = "are the text encoder's: set them under text.options"

    def holds_out(self) -> bool:
        """Whether any pictures are held out."""
        return self.data.held_out is not None or self.data.share > 0

    @model_validator(mode="after")
    def _of_a_text_model(self) -> Self:
        if names := self.training.for_texts():
            raise ValueError(f"training.{names[0]} is for models of texts: leave it out")
        return self


class ImageText(Training[Options]):
    """Trains the network on pictures and their texts."""

    name: ClassVar[str] = "image_text"

    def data_steps(self) -> list[str]:
        """Read the pictures, and have the text encoder encode their texts, once."""
        texts = list(dict.fromkeys([*(text for part in self._split for text in part.names), *self._words]))
        if self._vectors_file.exists():
            return []
        self.watcher.begin("encoding texts", len(texts))
        vectors = np.concatenate([self._encoded(texts[at : at + BATCH]) for at in range(0, len(texts), BATCH)])
        self.folder.store(TEXTS, ({"text": text} for text in texts))
        part = self._vectors_file.with_suffix(".new.npy")
        np.save(part, vectors, allow_pickle=False)
        part.replace(self._vectors_file)
        return [f"{sum(len(part.pixels) for part in self._files):,} pictures read, {len(texts):,} texts encoded"]

    def model(self) -> Any:
        """The network with random weights, in the form that the trainer takes."""
        image, words = self.options.image, self._words
        network = ImageTextNetwork(TowerShape(self._size, image.width, self.text.dimension, len(words), self._vit))
        if image.start is not None and isinstance(network.body, TransformerBody):
            network.body.begin_with(resolve(str(image.start)))
        if words:  # as SPLADE's static queries begin: with the inverse frequency of each word
            groups = len({*self._split[0].groups})
            idf = torch.tensor([groups / count for count in words.values()]).log1p()
            network.query_weights.data.copy_(idf / idf.max())
            network.text_words.weight.data.copy_(STEEP * self._vectors(list(words)))  # a text says the words near it
            network.text_words.bias.data.fill_(-STEEP * NEAR)
        return shell(network, device(self.options.training.device))

    def fit(self, model: Any) -> Fitted:
        """Train on a row for each picture with its texts, labelled with its number."""
        import datasets

        pictures, training, lexicon = self._split[0], self.options.training, self.options.lexicon
        rows = datasets.Dataset.from_dict({"query": [""] * len(pictures), "label": range(len(pictures))})
        steps = training.epochs * len(pictures) / training.batch_size
        loss = ImageTextLoss(
            model,
            model[0].network,
            pictures,
            self._vectors(pictures.names),
            [self._terms(text) for text in pictures.names] if lexicon else None,
            first=self.options.data.first,
            augment=self.options.image.augment,
            tau=self.options.loss.tau,
            weight=lexicon.weight if lexicon else 0.0,
            sparsity=lexicon.flops if lexicon else 0.0,
            ramp=round(steps * lexicon.ramp) if lexicon else 0,
        )
        return self.fitted(model, rows, loss)

    def evaluator(self) -> HeldOut | None:
        """Searches the held-out pictures by their first texts."""
        held = self._split[1]
        if not len(held):
            return None
        names = [held.names[own[0]] for own in held.texts]
        return ByName(held, self._vectors(names), self._bags(names) if self.options.lexicon else None)

    def export(self, model: Any) -> list[Registration]:
        """The network, its words, and which text encoder goes with it; served dense and as a lexicon."""
        settings = {**self._text_settings, "space": space_of(self.text)}
        module: ImageTextModule = model[0]
        ImageTextModel(module.network.eval().cpu(), list(self._words), settings).save(self.folder.path)
        options = {"model": str(self.folder.path)}
        lexicon = [Registration("image-lexicon", options, "lexicon")] if self._words else []
        return [Registration("image-text", options), *lexicon]

    @cached_property
    def text(self) -> DenseEncoder:
        """The text encoder."""
        return text_encoder(**self._text_settings)

    @cached_property
    def _vit(self) -> dict[str, int] | None:
        """The shape of the encoder that it begins with."""
        start = self.options.image.start
        return None if start is None else shape_of(resolve(str(start)))

    @property
    def _size(self) -> int:
        return self.options.image.size if self._vit is None else self._vit["image_size"]

    @property
    def _text_settings(self) -> dict[str, Any]:
        text = self.options.text
        return {"adapter": text.adapter, "options": {"model": self.options.model, **text.options}}

    @cached_property
    def _files(self) -> list[Pictures]:
        data, size = self.options.data, self._size
        return [read_pictures(path, size) for path in (data.items, data.held_out) if path is not None]

    @cached_property
    def _split(self) -> tuple[Pictures, Pictures]:
        """The pictures to train on, and those held out."""
        pictures, *other = self._files
        split = (pictures, other[0]) if other else pictures.split(self.options.data.share, self.options.seed)
        if not len(split[0]):
            got, do = f"all {len(pictures)} rows held out", "lower data.share, or add groups"
            raise ConfigError("there are no pictures to learn from", where="data", got=got, do=do)
        return split

    @cached_property
    def _words(self) -> dict[str, int]:
        """The lexicon's words, each with the number of groups that it is a word of."""
        if self.options.lexicon is None:
            return {}
        pictures = self._split[0]
        pairs = zip(pictures.groups, pictures.texts, strict=True)
        said = {(group, word) for group, own in pairs for text in own for word in words_of(pictures.names[text])}
        counts = Counter(word for _, word in said)
        return dict(sorted(counts.items(), key=lambda own: (-own[1], own[0]))[: self.options.lexicon.words])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self._words)}

    def _terms(self, text: str) -> list[int]:
        return [self._numbers[word] for word in dict.fromkeys(words_of(text)) if word in self._numbers]

    def _bags(self, texts: Sequence[str]) -> torch.Tensor:
        bags = torch.zeros(len(texts), len(self._words))
        for row, text in enumerate(texts):
            bags[row, self._terms(text)] = 1.0
        return bags

    @property
    def _vectors_file(self) -> Path:
        return self.folder.path / "data" / VECTORS

    def _vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """The text encoder's vectors, float32 `[texts, dimension]`, at unit length.

        Raises:
            ConfigError: they were prepared for other texts.
        """
        numbers = {row["text"]: number for number, row in enumerate(self.folder.stored(TEXTS) or ())}
        if missing := [text for text in texts if text not in numbers]:
            raise ConfigError(
                "the pictures have other texts than when they were prepared",
                where=self.folder.path,
                got=repr(missing[0]),
                do="delete the folder, or name another output",
            )
        vectors = torch.from_numpy(np.load(self._vectors_file, allow_pickle=False))
        return torch.nn.functional.normalize(vectors[[numbers[text] for text in texts]], dim=1)

    def _encoded(self, texts: Sequence[str]) -> Floats:
        vectors = self.text.encode_query(texts)
        self.watcher.advance("encoding texts", len(texts))
        return vectors
