"""`ImageTextNetwork`: a small convolutional network from pictures to a text encoder's space and to a lexicon.

It has one body and up to two heads. The dense head gives the vector that a frozen text encoder gives the picture's
texts, as the image half of ALIGN (Jia et al., 2021) and of CLIP do for a text encoder that is trained. The lexicon's
head gives a weight to each word, after LexLIP (Luo et al., ICCV 2023).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from diptych_adapters.lexicon.analysis import Analyzer
from diptych_adapters.lexicon.options import LexiconOptions
from diptych_adapters.models import ModelError, ModelFolder

CONFIG, WEIGHTS, WORDS = "config.json", "model.safetensors", "words.json"
KIND = "diptych-image-text"
WHITE = 255
GRID = 3  # cells a side that the last feature map is averaged into: flags differ by where their colours are


@dataclass(frozen=True, slots=True)
class TowerShape:
    """The shape of a network.

    Args:
        size: pixels a side of the pictures that it gets.
        width: channels of its first layer; each of its three stages doubles them.
        dimension: of the text encoder's space.
        terms: words of the lexicon, 0 for none.
        vit: the shape of a vision transformer that is its body; None for convolutions, whose `width` counts.
    """

    size: int
    width: int
    dimension: int
    terms: int = 0
    vit: Mapping[str, int] | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self:
        """The shape that a folder's config.json says; older ones have no `vit`."""
        numbers = {name: int(config[name]) for name in ("size", "width", "dimension", "terms")}
        vit = config.get("vit")
        return cls(**numbers, vit=None if vit is None else {name: int(value) for name, value in vit.items()})


class ImageTextNetwork(nn.Module):
    """The network: one body with a dense head and, if the shape has terms, a lexicon.

    Args:
        shape: sizes and heads.
    """

    def __init__(self, shape: TowerShape) -> None:
        super().__init__()
        self.shape = shape
        self.body, channels = _convolutions(shape.width) if shape.vit is None else _transformer(shape.vit)
        features = channels * GRID * GRID
        self.vector = nn.Linear(features, shape.dimension)
        if shape.terms:
            self.words = nn.Linear(features, shape.terms)
            self.text_words = nn.Linear(shape.dimension, shape.terms)
            self.query_weights = nn.Parameter(torch.ones(shape.terms))
        self.to(memory_format=torch.channels_last)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Vectors `[n, dimension]` and weights of words `[n, terms]`, both at unit length.

        Args:
            pixels: float32 `[n, 3, size, size]`, from -1 to 1.
        """
        features = self.body(pixels.contiguous(memory_format=torch.channels_last))  # faster on a CPU
        vectors = nn.functional.normalize(self.vector(features).float(), dim=1)
        return vectors, lexical(self.words(features)) if self.shape.terms else None

    def words_of_texts(self, vectors: Tensor) -> Tensor:
        """The lexicon's own text side: weights of words `[n, terms]` of the text encoder's vectors, at unit length."""
        return lexical(self.text_words(vectors))


class Residual(nn.Module):
    """Two convolutions beside the identity.

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


def _convolutions(width: int) -> tuple[nn.Module, int]:
    """Three stages of convolutions, and the channels of the last."""
    channels = [width, 2 * width, 4 * width]
    body = nn.Sequential(
        _convolution(3, channels[0], kernel=5, stride=2),
        Residual(channels[0]),
        _convolution(channels[0], channels[1], stride=2),
        Residual(channels[1]),
        _convolution(channels[1], channels[2], stride=2),
        Residual(channels[2]),
        nn.AdaptiveAvgPool2d(GRID),
        nn.Flatten(),
    )
    return body, channels[2]


def _transformer(vit: Mapping[str, int]) -> tuple[nn.Module, int]:
    from diptych_adapters.image_text.transformer import TransformerBody  # loads transformers

    return TransformerBody(vit, GRID), vit["hidden_size"]


def _convolution(given: int, channels: int, *, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(given, channels, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels), nn.ReLU())


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


def fitted(image: NDArray[Any], size: int) -> Tensor:
    """A picture uint8 `[height, width, 3]` as uint8 `[3, size, size]`: padded with white to a square, then scaled."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ModelError(
            "not a picture",
            where="image_text",
            got=f"{image.dtype} {list(image.shape)}",
            expected="uint8 [height, width, 3]",
        )
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


def normalized(pixels: Tensor) -> Tensor:
    """Pixels uint8 `[n, 3, size, size]` as the network wants them, float32 from -1 to 1."""
    return pixels.float() / 127.5 - 1


_ANALYZER = Analyzer(LexiconOptions(language="multilingual", min_token_length=1))


def words_of(text: str) -> list[str]:
    """The words of a text in any language, in lower case; Chinese and Japanese as pairs of characters."""
    return _ANALYZER.words(text)


@dataclass(frozen=True, slots=True)
class ImageTextModel:
    """A network with everything that its folder holds.

    Args:
        network: in evaluation mode.
        words: of the lexicon, in the order of its terms; empty without one.
        text: the text encoder: `adapter`, `options`, and the `space` of its vectors.
    """

    network: ImageTextNetwork
    words: Sequence[str]
    text: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write config.json, model.safetensors and, with a lexicon, words.json."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"model_type": KIND, **asdict(self.network.shape), "text": self.text}
        (folder / CONFIG).write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", "utf-8")
        if self.words:
            (folder / WORDS).write_text(json.dumps(list(self.words), ensure_ascii=False) + "\n", "utf-8")
        save_file({name: value.contiguous() for name, value in self.network.state_dict().items()}, folder / WEIGHTS)

    @classmethod
    def load(cls, folder: ModelFolder) -> Self:
        """The model of a folder.

        Raises:
            ModelError: it is not such a folder, or its files do not belong together.
        """
        config = dict(folder.config())
        missing = [name for name in (CONFIG, WEIGHTS) if not (folder.path / name).is_file()]
        if missing or config.get("model_type") != KIND:
            raise ModelError(
                f"model {folder.name!r} is none of the recipe image_text",
                where=folder.path,
                got=f"no {', '.join(missing)}" if missing else f"model_type {config.get('model_type')!r}",
                expected="what `diptych train` wrote",
            )
        try:
            shape = TowerShape.of(config)
            words = json.loads((folder.path / WORDS).read_text("utf-8")) if shape.terms else []
            text = {"adapter": str(config["text"]["adapter"]), **config["text"]}
            network = ImageTextNetwork(shape)
            network.load_state_dict(load_file(folder.path / WEIGHTS))
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, OSError, SafetensorError) as error:
            raise _damaged(folder, f"{type(error).__name__}: {str(error).splitlines()[0]}") from error
        if len(words) != shape.terms or len({*words}) != len(words):
            raise _damaged(folder, f"{len({*words}):,} words for {shape.terms:,} terms")
        return cls(network.eval(), words, text)


def _damaged(folder: ModelFolder, got: str) -> ModelError:
    what = f"the files of model {folder.name!r} do not go together"
    return ModelError(what, where=folder.path, got=got, do="train it again, or copy its folder again")


@torch.inference_mode()
def encoded(network: ImageTextNetwork, images: Iterable[NDArray[Any]], batch_size: int) -> tuple[Tensor, Tensor | None]:
    """Vectors and weights of words of pictures of any size, see `ImageTextNetwork.forward`.

    Args:
        network: in evaluation mode.
        images: uint8 `[height, width, 3]` each.
        batch_size: pictures in one forward pass.
    """
    device = network.vector.weight.device
    pixels = [fitted(image, network.shape.size) for image in images]
    parts = [
        network(normalized(torch.stack(pixels[start : start + batch_size]).to(device)))
        for start in range(0, len(pixels), batch_size)
    ]
    vectors = torch.cat([part[0] for part in parts]).cpu()
    return vectors, torch.cat([part[1] for part in parts if part[1] is not None]).cpu() if network.shape.terms else None
