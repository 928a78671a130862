"""`MediaTextNetwork`: a small network from media to a text encoder's space and to a lexicon, and its files.

It has one body and up to two heads. The dense head gives the vector that a frozen text encoder gives the item's
texts, as the image half of ALIGN (Jia et al., 2021) and of CLIP do for a text encoder that is trained. The lexicon's
head gives a weight to each word, after LexLIP (Luo et al., ICCV 2023).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych.media import Content
from diptych_adapters.lexical import Analyzer
from diptych_adapters.model_options import LexiconOptions
from diptych_adapters.models import ModelError, ModelFolder
from diptych_adapters.pipelines.fingerprints import read_json
from diptych_adapters.pipelines.library import loading, quiet

NAMES = ("image_size", "patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
ENCODER_WEIGHTS = "model.safetensors with all weights of a ViT"
HALF = (0.5, 0.5, 0.5)  # mean and deviation of pixels, so that they go from -1 to 1

GRID = 3  # cells a side that the last feature map is averaged into: flags differ by where their colours are
WHITE = 255
CONFIG, WEIGHTS, WORDS = "config.json", "model.safetensors", "words.json"
_ANALYZER = Analyzer(LexiconOptions(language="multilingual", min_token_length=1))


class Form(Protocol):
    """The input of a network. Its fields are whole numbers and are saved with the model."""

    of: ClassVar[str]

    def parts(self, content: Content) -> list[Tensor]:
        """An item as one or more tensors uint8, all of one shape; the vectors of several are averaged.

        Raises:
            ModelError: it is not an item of this modality.
        """
        ...

    def body(self, width: int) -> tuple[nn.Module, int]:
        """The first half of the network, and how many features it makes."""
        ...


@dataclass(frozen=True, slots=True)
class Picture:
    """Pictures, padded with white to a square and scaled: uint8 `[3, size, size]`.

    Args:
        size: pixels a side.
    """

    of: ClassVar[str] = "image"
    size: int

    def parts(self, content: Content) -> list[Tensor]:
        """The picture."""
        return [fitted(content, self.size)]

    def body(self, width: int) -> tuple[nn.Module, int]:
        """Convolutions."""
        return convolutional(3, width)


FORMS: dict[str, type[Any]] = {"image": Picture}  # by modality; diptych_experimental.media_forms adds more


def normalized(parts: Tensor) -> Tensor:
    """Stacked parts of items as a network gets them, float32 from -1 to 1."""
    return parts.float() / 127.5 - 1


def fitted(image: Content, size: int) -> Tensor:
    """A picture uint8 `[height, width, 3]` as uint8 `[3, size, size]`: padded with white to a square, then scaled."""
    wrong = not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8
    if not isinstance(image, np.ndarray) or wrong or not image.size:
        raise refused("a picture", image, "uint8 [height, width, 3]")
    height, width, _ = image.shape
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)  # a copy: torch wants arrays that can be written
    if height != width:
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        pixels = nn.functional.pad(pixels, (left, side - width - left, top, side - height - top), value=WHITE)
    if pixels.shape[1] == size:
        return pixels
    scaled = nn.functional.interpolate(pixels[None].float(), (size, size), mode="bilinear", antialias=True)[0]
    return scaled.round().clamp(0, 255).to(torch.uint8)


def refused(what: str, content: Any, expected: str) -> ModelError:
    """The error for what is no item of a form's modality."""
    got = f"{content.dtype} {list(content.shape)}" if isinstance(content, np.ndarray) else type(content).__name__
    return ModelError(f"not {what}", where="a model of media and texts", got=got, expected=expected)


def convolutional(given: int, width: int) -> tuple[nn.Sequential, int]:
    """Three stages of convolutions over `[n, given, height, width]`, and how many features they make.

    Args:
        given: channels of the input.
        width: channels of the first stage; each stage doubles them.
    """
    channels = [width, 2 * width, 4 * width]
    body = nn.Sequential(
        _convolution(given, channels[0], kernel=5, stride=2),
        Residual(channels[0]),
        _convolution(channels[0], channels[1], stride=2),
        Residual(channels[1]),
        _convolution(channels[1], channels[2], stride=2),
        Residual(channels[2]),
        nn.AdaptiveAvgPool2d(GRID),
        nn.Flatten(),
    )
    return body, channels[2] * GRID * GRID


class Residual(nn.Module):
    """Two convolutions whose result is added to their input.

    Args:
        channels: of the feature map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            _convolution(channels, channels),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """A feature map of the same shape."""
        return torch.relu(features + self.inner(features))


def _convolution(given: int, channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(given, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


@dataclass(frozen=True, slots=True)
class TowerShape:
    """The shape of a network.

    Args:
        form: what it gets of an item.
        width: channels of its first layer; see `bodies`.
        dimension: of the text encoder's space.
        terms: words of the lexicon, 0 for none.
        vit: the shape of a vision transformer that is the body of pictures; None for the form's own body.
    """

    form: Form
    width: int
    dimension: int
    terms: int = 0
    vit: Mapping[str, int] | None = None

    @classmethod
    def of(cls, modality: str, config: Mapping[str, Any]) -> Self:
        """The shape that a folder's config.json says; older ones have no `vit`."""
        form = FORMS[modality](**{own.name: int(config[own.name]) for own in fields(FORMS[modality])})
        width, dimension, terms = (int(config[name]) for name in ("width", "dimension", "terms"))
        vit = config.get("vit")
        vit = None if vit is None else {name: int(value) for name, value in vit.items()}
        return cls(form, width, dimension, terms, vit)


class MediaTextNetwork(nn.Module):
    """The network: one body with a dense head and, if the shape has terms, a lexicon.

    Args:
        shape: sizes and heads.
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        if shape.vit is None:
            self.body, features = shape.form.body(shape.width)
        else:
            self.body, features = TransformerBody(shape.vit, GRID), shape.vit["hidden_size"] * GRID * GRID
        self.vector = nn.Linear(features, shape.dimension)
        if shape.terms:
            self.words = nn.Linear(features, shape.terms)
            self.text_words = nn.Linear(shape.dimension, shape.terms)
            self.query_weights = nn.Parameter(torch.ones(shape.terms))
        self.to(memory_format=torch.channels_last)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        """Vectors `[n, dimension]` and weights of words `[n, terms]`, both at unit length.

        Args:
            inputs: float32 `[n, ...]`, of `normalized`.
        """
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        features = self.body(inputs)
        vectors = nn.functional.normalize(self.vector(features).float(), dim=1)
        return vectors, lexical(self.words(features)) if self.shape.terms else None

    def words_of_texts(self, vectors: Tensor) -> Tensor:
        """The lexicon's own text side: weights of words `[n, terms]` of the text encoder's vectors, at unit length."""
        return lexical(self.text_words(vectors))


def lexical(logits: Tensor) -> Tensor:
    """Logits `[n, terms]` as weights, `log(1 + relu(logit))` at unit length."""
    weights: Tensor = _Rising.apply(logits.float())
    return nn.functional.normalize(weights.log1p(), dim=1)


class _Rising(torch.autograd.Function):
    """relu that passes on a gradient below 0 if it would raise the logit.

    relu itself has none there, so a word that no picture says would never be learned.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        ctx.save_for_backward(logits)
        return logits.relu()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (logits,), (gradient,) = ctx.saved_tensors, gradients
        return torch.where(logits > 0, gradient, gradient.clamp(max=0))


def words_of(text: str) -> list[str]:
    """The words of a text in any language, in lower case; Chinese and Japanese as pairs of characters."""
    return _ANALYZER.words(text)


@dataclass(frozen=True, slots=True)
class MediaTextModel:
    """A network with everything that its folder holds.

    Args:
        network: in evaluation mode.
        words: of the lexicon, in the order of its terms; empty without one.
        text: the text encoder: `adapter`, `options`, and the `space` of its vectors.
    """

    network: MediaTextNetwork
    words: Sequence[str]
    text: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write config.json, model.safetensors and, with a lexicon, words.json."""
        folder.mkdir(parents=True, exist_ok=True)
        shape = asdict(self.network.shape)
        config = {"model_type": _kind(self.network.shape.form.of), **shape.pop("form"), **shape, "text": self.text}
        (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", "utf-8")
        if self.words:
            (folder / WORDS).write_text(json.dumps(list(self.words), ensure_ascii=False) + "\n", "utf-8")
        save_file({name: value.contiguous() for name, value in self.network.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: ModelFolder, of: str) -> Self:
        """The model of a folder.

        Args:
            folder: where it was saved.
            of: the modality that it must be of.

        Raises:
            ModelError: it is no such folder, or its files do not belong together.
        """
        config = dict(folder.config())
        missing = [name for name in (CONFIG, WEIGHTS) if not (folder.path / name).is_file()]
        if missing or config.get("model_type") != _kind(of):
            raise ModelError(
                f"model {folder.name!r} is none of the recipe {of}_text",
                where=folder.path,
                got=f"no {', '.join(missing)}" if missing else f"model_type {config.get('model_type')!r}",
                expected=f"what `diptych train` wrote by that recipe: model_type {_kind(of)!r}",
            )
        try:
            shape = TowerShape.of(of, config)
            words = json.loads((folder.path / WORDS).read_text("utf-8")) if shape.terms else []
            text = {"adapter": str(config["text"]["adapter"]), **config["text"]}
            network = MediaTextNetwork(shape)
            network.load_state_dict(load_file(folder.path / WEIGHTS))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
            raise _damaged(folder, f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
        if len(words) != shape.terms or len({*words}) != len(words):
            raise _damaged(folder, f"{len({*words}):,} words for {shape.terms:,} terms")
        return cls(network.eval(), words, text)


def _kind(of: str) -> str:
    """The model_type of a modality's models."""
    return f"diptych-{of}-text"


def _damaged(folder: ModelFolder, got: str) -> ModelError:
    what = f"the files of model {folder.name!r} do not go together"
    return ModelError(what, where=folder.path, got=got, do="train it again, or copy its folder again")


@torch.inference_mode()
def encoded(network: MediaTextNetwork, contents: Iterable[Content], batch_size: int) -> tuple[Tensor, Tensor | None]:
    """Vectors and weights of words of media, see `MediaTextNetwork.forward`. Those of an item's parts are averaged.

    Args:
        network: in evaluation mode.
        contents: items of the network's modality.
        batch_size: parts in one forward pass.
    """
    device, form = network.vector.weight.device, network.shape.form
    parts = [form.parts(content) for content in contents]
    counts, flat = [len(part) for part in parts], [part for own in parts for part in own]
    outputs = [
        network(normalized(torch.stack(flat[start : start + batch_size]).to(device)))
        for start in range(0, len(flat), batch_size)
    ]
    vectors = _averaged(torch.cat([output[0] for output in outputs]).cpu(), counts)
    if not network.shape.terms:
        return vectors, None
    return vectors, _averaged(torch.cat([output[1] for output in outputs if output[1] is not None]).cpu(), counts)


def _averaged(rows: Tensor, counts: Sequence[int]) -> Tensor:
    """The means of as many rows as each count says, at unit length."""
    if len(rows) == len(counts):
        return rows
    return nn.functional.normalize(torch.stack([own.mean(0) for own in rows.split(list(counts))]), dim=1)


class TransformerBody(nn.Module):
    """A vision transformer whose tokens are averaged into `cells` by `cells` parts of the picture.

    Args:
        config: of its shape, see `NAMES`.
        cells: a side.
    """

    def __init__(self, config: Mapping[str, int], cells: int) -> None:
        super().__init__()
        shape: dict[str, Any] = {**config}
        self.model: Any = transformers.ViTModel(transformers.ViTConfig(**shape), add_pooling_layer=False)
        self.side = config["image_size"] // config["patch_size"]
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(cells), nn.Flatten())

    def forward(self, pixels: Tensor) -> Tensor:
        """Features `[n, hidden_size * cells * cells]` of pixels `[n, 3, size, size]` from -1 to 1."""
        tokens = self.model(pixel_values=pixels).last_hidden_state[:, 1:]
        features: Tensor = self.pool(tokens.transpose(1, 2).unflatten(2, (self.side, self.side)))
        return features

    def begin_with(self, folder: ModelFolder) -> None:
        """Take the weights of a folder.

        Raises:
            ModelError: it does not have all of them, in this shape.
        """
        try:
            with loading, quiet():
                read: Any = transformers.ViTModel.from_pretrained
                given, loaded = read(
                    str(folder.path),
                    add_pooling_layer=False,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                )
        except (OSError, RuntimeError, ValueError, SafetensorError) as error:
            got = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            raise _unusable(folder, got, ENCODER_WEIGHTS) from error
        if missing := sorted(loaded["missing_keys"]):
            raise _unusable(folder, f"{len(missing)} weights are missing, such as {missing[0]}", ENCODER_WEIGHTS)
        self.model.load_state_dict(given.state_dict())


def shape_of(folder: ModelFolder) -> dict[str, int]:
    """The shape of a picture encoder to begin with, by `NAMES`.

    Raises:
        ModelError: it is not a ViT of square pictures that reads pixels from -1 to 1.
    """
    config = folder.config()
    expected = "what recipe pretrain with of: image wrote, or another ViT of square pictures"
    if config.get("model_type") != "vit":
        raise _unusable(folder, f"model_type {config.get('model_type')!r}", expected)
    shape = {name: config.get(name) for name in NAMES}
    if wrong := [name for name, value in shape.items() if not isinstance(value, int)]:
        raise _unusable(folder, f"{wrong[0]}: {shape[wrong[0]]!r}", expected)
    saved: Mapping[str, Any] = read_json(folder.path / "preprocessor_config.json")
    pixels = [tuple(saved.get(name) or ()) for name in ("image_mean", "image_std")]
    if pixels != [HALF, HALF]:
        raise _unusable(folder, f"image_mean and image_std {pixels}", "0.5 for each colour: pixels from -1 to 1")
    return {name: int(value) for name, value in shape.items() if value is not None}


def _unusable(folder: ModelFolder, got: str, expected: str) -> ModelError:
    what = f"the network cannot begin with {folder.name!r}"
    return ModelError(what, where=folder.path, got=got, expected=expected)
