"""`image_text`: vectors of a frozen text encoder, and words, for pictures.

Trains a small network of its own; see `diptych_training.recipes.media_text`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from sentence_transformers import SentenceTransformer
from torch import Tensor

from diptych.errors import ConfigError
from diptych.protocols import DenseEncoder
from diptych.training import Registration, RelativePath
from diptych_adapters.media_text.encoders import space_of, text_encoder
from diptych_adapters.media_text.network import (
    Form,
    MediaTextModel,
    MediaTextNetwork,
    Picture,
    TowerShape,
    TransformerBody,
    normalized,
    shape_of,
    words_of,
)
from diptych_adapters.models import resolve
from diptych_training.data.media_items import Items, Relevant, augment_pictures, read_items
from diptych_training.losses.contrastive import symmetric_contrastive
from diptych_training.options import AboveZero, EncoderOptions, Positive, RecipeOptions, Section, Share
from diptych_training.recipes.base import Training
from diptych_training.recipes.splade import flops
from diptych_training.recipes.student import TEXTS, VECTORS, encode_once
from diptych_training.running.families import device
from diptych_training.running.run import HeldOutEvaluator
from diptych_training.trained_module import TrainedModule

BATCH = 256  # inputs that are encoded at a time
LEXICON = "lexicon "  # begins the names of the lexicon's measures
O = TypeVar("O", bound="MediaTextOptions")  # noqa: E741
SHARPEST = 100.0  # 1 / tau of the learned temperatures at most
STEEP, NEAR = 10.0, 0.4  # of the lexicon's text side at first: a word's logit is STEEP (cosine - NEAR)


class ItemsOptions(Section):
    """The items for training and for evaluation."""

    items: RelativePath = Field(
        description='JSON lines `{"image", "texts", "group"?}`, or CSV with these columns; other recipes have `sound`'
        " or `video` in place of `image`."
    )
    held_out: RelativePath | None = Field(
        None, description="Items for evaluation, same format, from another artist, camera, instrument or shop."
    )
    share: Share = Field(0.1, description="Without held_out: share of the groups to hold out; 0 holds out none.")
    first: Share = Field(0.5, description="Probability that the text drawn for an item is its first.")


class NetworkOptions(Section):
    """The network, and how its inputs are varied; a recipe adds the sizes of the inputs."""

    width: Positive = Field(32, description="Channels of the first layer; three stages double them.")
    augment: float = Field(0.6, ge=0, le=2, description="Strength of the augmentation.")


class LexiconOptions(Section):
    """The second head, over words."""

    weight: AboveZero = Field(1.0, description="Weight of the lexicon's losses; the dense head's is 1.")
    words: Positive = Field(20_000, description="Maximum number of words, those of the most groups.")
    flops: float = Field(0.002, ge=0, description="Weight of the FLOPS penalty, which keeps vectors sparse.")
    ramp: Share = Field(0.3, description="Share of the steps in which that weight rises, 0 to 1.")


class LossOptions(Section):
    """Options of the losses; see `diptych_training.recipes.media_text.MediaTextLoss`."""

    tau: AboveZero = Field(0.07, description="Initial temperature, which is trained.")


class MediaTextOptions(RecipeOptions):
    """Options that these recipes share. Each adds a section on what its network gets."""

    data: ItemsOptions
    text: EncoderOptions = Field(default_factory=EncoderOptions)
    lexicon: LexiconOptions | None = Field(default_factory=LexiconOptions, description="Sparse head; null trains none.")
    loss: LossOptions = Field(default_factory=LossOptions)

    whole: ClassVar[str] = "does not go with media: leave it out"
    unprompted: ClassVar[str] = "are the text encoder's: set them under text.options"
    reads_texts: ClassVar[bool] = False

    def holds_out(self) -> bool:
        """Whether any items are held out."""
        return self.data.held_out is not None or self.data.share > 0


class MediaText(Training[O], Generic[O]):
    """Trains the network on media and their texts. A subclass says what the network gets."""

    items_noun: ClassVar[str]

    @staticmethod
    @abstractmethod
    def varied(inputs: Tensor, strength: float, /) -> Tensor:
        """The inputs of items, augmented with this strength."""

    @property
    @abstractmethod
    def form(self) -> Form:
        """What the network gets of an item."""

    @property
    def network(self) -> NetworkOptions:
        """The width of the network, and the strength of the augmentation: the options' section of the modality."""
        section: NetworkOptions = getattr(self.options, self.name.removesuffix("_text"))
        return section

    @property
    def vit(self) -> dict[str, int] | None:
        """The shape of a vision transformer in place of the form's own body."""
        return None

    def begin(self, network: MediaTextNetwork) -> None:
        """Give the new network weights that it begins with."""

    def data_steps(self) -> list[str]:
        """Read the items, and have the text encoder encode their texts, once."""
        texts = list(dict.fromkeys([*(text for part in self._split for text in part.names), *self._words]))
        if self.folder.stored_array(VECTORS) is not None:
            return []
        encode_once(self, texts, self.text.encode_query, "encoding texts")
        return [
            f"{sum(len(part.inputs) for part in self._files):,} {self.items_noun} read, {len(texts):,} texts encoded"
        ]

    def model(self) -> Any:
        """The network with random weights, in the form that the trainer takes."""
        words = self._words
        shape = TowerShape(self.form, self.network.width, self.text.dimension, len(words), self.vit)
        network = MediaTextNetwork(shape)
        self.begin(network)
        if words:  # as SPLADE's static queries begin: with the inverse frequency of each word
            groups = len({*self._split[0].groups})
            idf = torch.tensor([groups / count for count in words.values()]).log1p()
            network.query_weights.data.copy_(idf / idf.max())
            network.text_words.weight.data.copy_(STEEP * self._vectors(list(words)))  # a text says the words near it
            network.text_words.bias.data.fill_(-STEEP * NEAR)
        return media_text_model(network, device(self.options.training.device))

    def rows(self) -> Any:
        """A row for each item with its texts, labelled with its number."""
        import datasets

        count = len(self._split[0])
        return datasets.Dataset.from_dict({"query": [""] * count, "label": range(count)})

    def loss(self, model: Any) -> MediaTextLoss:
        """Of both heads."""
        items, training, lexicon = self._split[0], self.options.training, self.options.lexicon
        steps = training.epochs * len(items) / training.batch_size
        return MediaTextLoss(
            model,
            model[0].network,
            items,
            self._vectors(items.names),
            [self._terms(text) for text in items.names] if lexicon else None,
            first=self.options.data.first,
            vary=lambda inputs: self.varied(inputs, self.network.augment),
            tau=self.options.loss.tau,
            weight=lexicon.weight if lexicon else 0.0,
            sparsity=lexicon.flops if lexicon else 0.0,
            ramp=round(steps * lexicon.ramp) if lexicon else 0,
        )

    def evaluator(self) -> HeldOutEvaluator | None:
        """Searches the held-out items by their first texts."""
        held = self._split[1]
        if not len(held):
            return None
        names = [held.names[own[0]] for own in held.texts]
        bags = None
        if self.options.lexicon:
            bags = bags_of([self._terms(name) for name in names], len(self._words))
        return MediaSearchEvaluator(held, self._vectors(names), bags)

    def export(self, model: Any) -> list[Registration]:
        """The network, its words, and which text encoder goes with it; served dense and as a lexicon."""
        settings = {**self._text_settings, "space": space_of(self.text)}
        module: MediaTextModule = model[0]
        MediaTextModel(module.network.eval().cpu(), list(self._words), settings).save(self.folder.path)
        of = self.form.of
        options = {"modality": of, "model": str(self.folder.path)}
        lexicon = [Registration("media-lexicon", options, "lexicon", of=of)] if self._words else []
        return [Registration("media-text", options, of=of), *lexicon]

    @cached_property
    def text(self) -> DenseEncoder:
        """The text encoder."""
        return text_encoder(**self._text_settings)

    @property
    def _text_settings(self) -> dict[str, Any]:
        text = self.options.text
        return {"adapter": text.adapter, "options": {"model": self.options.model, **text.options}}

    @cached_property
    def _files(self) -> list[Items]:
        data = self.options.data
        return [read_items(path, self.form) for path in (data.items, data.held_out) if path is not None]

    @cached_property
    def _split(self) -> tuple[Items, Items]:
        """The items to train on, and those held out."""
        items, *other = self._files
        split = (items, other[0]) if other else items.split(self.options.data.share, self.options.seed)
        if not len(split[0]):
            got, do = f"all {len(items)} rows held out", "lower data.share, or add groups"
            raise ConfigError(f"there are no {self.items_noun} to learn from", where="data", got=got, do=do)
        return split

    @cached_property
    def _words(self) -> dict[str, int]:
        """The lexicon's words, each with the number of groups that it is a word of."""
        if self.options.lexicon is None:
            return {}
        items = self._split[0]
        pairs = zip(items.groups, items.texts, strict=True)
        said = {(group, word) for group, own in pairs for text in own for word in words_of(items.names[text])}
        counts = Counter(word for _, word in said)
        return dict(sorted(counts.items(), key=lambda own: (-own[1], own[0]))[: self.options.lexicon.words])

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self._words)}

    def _terms(self, text: str) -> list[int]:
        return [self._numbers[word] for word in dict.fromkeys(words_of(text)) if word in self._numbers]

    def _vectors(self, texts: Sequence[str]) -> torch.Tensor:
        """The text encoder's vectors, float32 `[texts, dimension]`, at unit length.

        Raises:
            ConfigError: they were prepared for other texts.
        """
        numbers = {row["text"]: number for number, row in enumerate(self.folder.stored(TEXTS) or ())}
        if missing := [text for text in texts if text not in numbers]:
            raise ConfigError(
                f"the {self.items_noun} have other texts than when the training was prepared",
                where=self.folder.path,
                got=repr(missing[0]),
                do="delete the folder, or name another output",
            )
        vectors = torch.from_numpy(self.folder.stored_array(VECTORS))
        return torch.nn.functional.normalize(vectors[[numbers[text] for text in texts]], dim=1)


class MediaTextModule(TrainedModule):
    """The network as the only module of a model. Rows of the data set are numbers; the loss looks up their inputs.

    Args:
        network: that is trained.
    """

    def __init__(self, network: MediaTextNetwork) -> None:
        super().__init__()
        self.network = network

    def preprocess(self, inputs: list[str], prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """No features: the inputs are empty."""
        return {"rows": torch.zeros(len(inputs))}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The features with `sentence_embedding` and `words` of their `inputs`."""
        vectors, words = self.network(features["inputs"])
        return {**features, "sentence_embedding": vectors, **({} if words is None else {"words": words})}


def media_text_model(network: MediaTextNetwork, device: str) -> SentenceTransformer:
    """A model of this module alone."""
    return SentenceTransformer(modules=[MediaTextModule(network)], device=device)


class MediaSearchEvaluator(HeldOutEvaluator):
    """Searches held-out items by the first text of each row, exactly. nDCG@10 of the dense head chooses checkpoints.

    Args:
        items: held out.
        vectors: of their first texts, float32 `[rows, dimension]`.
        bags: the terms of these texts by the lexicon's words, float32 `[rows, terms]`; None without a lexicon.
    """

    def __init__(self, items: Items, vectors: Tensor, bags: Tensor | None) -> None:
        super().__init__(None)
        self._items, self._vectors, self._bags = items, vectors, bags
        groups = dict(zip(items.places, items.groups, strict=True))
        self._places = sorted(groups)
        first = [text[0] for text in items.texts]
        self._relevant = Relevant(items).matrix(first, [groups[place] for place in self._places]).numpy()

    @torch.no_grad()
    def measured(self, model: Any) -> dict[str, float]:
        """The values of a model, by measure; the lexicon's by plain words, beside the dense head's."""
        training, device = model.training, next(model.parameters()).device
        model.eval()
        inputs = self._items.inputs[self._places]
        outputs = [model({"inputs": normalized(part.to(device))}) for part in inputs.split(BATCH)]
        vectors = torch.cat([output["sentence_embedding"] for output in outputs]).float().cpu()
        values = ranked(self._vectors @ vectors.T, self._relevant)
        if self._bags is not None:
            words = torch.cat([output["words"] for output in outputs]).float().cpu()
            weights = model[0].network.query_weights.detach().relu().cpu()
            of_lexicon = ranked((self._bags * weights) @ words.T, self._relevant)
            values |= {f"{LEXICON}{name}": value for name, value in of_lexicon.items()}
        model.train(training)
        return values


def ranked(scores: Tensor, relevant: NDArray[np.bool_]) -> dict[str, float]:
    """nDCG@10, R@1 and R@10 of scores `[queries, items]`, means over the queries; ties count as lost.

    R@k is the share of queries with a relevant item among the first k.
    """
    values = scores.numpy()
    order = np.argsort(np.where(relevant, np.nextafter(values, -np.inf), values) * -1, axis=1, kind="stable")
    hits = np.take_along_axis(relevant, order[:, :10], 1)
    discounts = 1 / np.log2(np.arange(2, hits.shape[1] + 2))
    ideal = np.array([discounts[: min(count, len(discounts))].sum() for count in relevant.sum(1)])
    return {
        "nDCG@10": float(((hits * discounts).sum(1) / np.maximum(ideal, 1e-9)).mean()),
        "R@1": float(hits[:, :1].any(1).mean()),
        "R@10": float(hits.any(1).mean()),
    }


class MediaTextLoss(torch.nn.Module):
    """`L_dense + w (L_words + L_text + f FLOPS)`, each L the mean of both directions' contrastive loss of the batch.

    Symmetric contrastive losses over a batch, as in ALIGN (Jia et al., ICML 2021), and over a lexicon at unit length
    with FLOPS, as in LexLIP (Luo et al., ICCV 2023).

    For each row of the batch one text is drawn and the item is augmented. A text is right for every item of its
    group and for every item that has the same text. `L_dense` compares with the text encoder's vectors, `L_words`
    with the weighted words of the text, `L_text` with the weights that the lexicon's own text side gives it.

    Args:
        model: the one that is trained; its features `sentence_embedding` and `words` are those of `MediaTextNetwork`.
        network: within the model.
        items: to learn from.
        vectors: of all texts, float32 `[texts, dimension]`, at unit length.
        terms: of each text, the terms of its words; None without a lexicon.
        first: how often the drawn text is the row's first.
        vary: augments the inputs of a batch.
        tau: initial temperature; it is trained.
        weight: w.
        sparsity: f, once the ramp is over.
        ramp: steps in which f rises with their square.
    """

    steps: Tensor

    def __init__(
        self,
        model: Any,
        network: MediaTextNetwork,
        items: Items,
        vectors: Tensor,
        terms: Sequence[Sequence[int]] | None,
        *,
        first: float,
        vary: Callable[[Tensor], Tensor],
        tau: float,
        weight: float,
        sparsity: float,
        ramp: int,
    ) -> None:
        super().__init__()
        self.model = model
        self._network, self._items, self._vectors, self._terms = [network], items, vectors, terms  # no child
        self._relevant = Relevant(items)
        self._first, self._vary, self._weight, self._sparsity, self._ramp = first, vary, weight, sparsity, ramp
        self.log_scale = torch.nn.Parameter(torch.full((3 if terms is not None else 1,), -math.log(tau)))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, sentence_features: Iterable[Mapping[str, Tensor]], labels: Tensor) -> Tensor:
        """The loss of the rows that `labels` `[B]` names."""
        rows, device = labels.tolist(), labels.device
        texts = self._drawn(rows)
        inputs = normalized(self._items.inputs[[self._items.places[row] for row in rows]].to(device))
        outputs = self.model({"inputs": self._vary(inputs)})
        relevant = self._relevant.matrix(texts, [self._items.groups[row] for row in rows]).to(device)
        vectors = self._vectors[texts].to(device)
        scales = self.log_scale.exp().clamp(max=SHARPEST)
        loss = self._of(vectors, outputs["sentence_embedding"], relevant, scales[0])
        if self._terms is None:
            return loss
        words, network = outputs["words"], self._network[0]
        bags = torch.nn.functional.normalize(
            bags_of([self._terms[text] for text in texts], words.shape[1]).to(words) * network.query_weights.relu(),
            dim=1,
        )
        side = network.words_of_texts(vectors)
        lexicon = self._of(bags, words, relevant, scales[1]) + self._of(side, words, relevant, scales[2])
        self.steps += int(self.training)
        penalty = self._sparsity * (min(1.0, int(self.steps) / self._ramp) ** 2 if self._ramp else 1.0)
        return loss + self._weight * (lexicon + penalty * (flops(words) + flops(side)))

    def _of(self, texts: Tensor, media: Tensor, relevant: Tensor, scale: Tensor) -> Tensor:
        return symmetric_contrastive(texts.float() @ media.float().T * scale, relevant, ~relevant)

    def _drawn(self, rows: Sequence[int]) -> list[int]:
        """A text of each row."""
        draws = torch.rand(len(rows), 2).tolist()
        texts = (self._items.texts[row] for row in rows)
        return [
            text[0] if len(text) == 1 or main < self._first else text[1 + int(other * (len(text) - 1))]
            for text, (main, other) in zip(texts, draws, strict=True)
        ]


def bags_of(terms: Sequence[Sequence[int]], words: int) -> Tensor:
    """Bags of terms, `[texts, words]`: 1 where a text has the term."""
    bags = torch.zeros(len(terms), words)
    for row, own in enumerate(terms):
        bags[row, list(own)] = 1.0
    return bags


class ImageOptions(NetworkOptions):
    """The network and the pictures that it gets."""

    size: int = Field(48, ge=16, le=512, description="Side length in pixels to which pictures are scaled.")
    start: RelativePath | None = Field(
        None, description="Folder of a picture encoder of recipe `pretrain` to start from; it sets size and width."
    )
    augment: float = Field(0.6, ge=0, le=2, description="Strength of the augmentation: rotation, colour, blur.")

    @model_validator(mode="after")
    def _shape_of_the_start(self) -> Self:
        if self.start is not None and (names := {"size", "width"} & self.model_fields_set):
            raise ValueError(f"{min(names)} comes from start: leave it out")
        return self


class ImageTextOptions(MediaTextOptions):
    """Options of `image_text`."""

    image: ImageOptions = Field(default_factory=ImageOptions)


class ImageText(MediaText[ImageTextOptions]):
    """Trains the network on pictures and their texts."""

    name: ClassVar[str] = "image_text"
    items_noun: ClassVar[str] = "pictures"
    varied = staticmethod(augment_pictures)

    @property
    def form(self) -> Picture:
        """What the network gets of an item."""
        return Picture(self.options.image.size if self.vit is None else self.vit["image_size"])

    @cached_property
    def vit(self) -> dict[str, int] | None:
        """The shape of the encoder that it begins with."""
        start = self.options.image.start
        return None if start is None else shape_of(resolve(str(start)))

    def begin(self, network: MediaTextNetwork) -> None:
        """Take the weights of the encoder that it begins with."""
        if isinstance(network.body, TransformerBody):
            network.body.begin_with(resolve(str(self.options.image.start)))
