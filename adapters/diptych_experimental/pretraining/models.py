"""Encoder and decoder of masked items, in the form that sentence-transformers' trainer takes.

The decoder reads the tokens of the visible patches and predicts the hidden ones. It has few layers and is discarded
afterwards: He et al., "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import torch
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from diptych.media import Modality
from diptych_experimental.pretraining.encoders import BODIES, Body, EncoderShape, positions
from diptych_experimental.pretraining.masks import Grid
from diptych_experimental.pretraining.media import Unlabelled
from diptych_training.models.trained_module import TrainedModule

Target: TypeAlias = Literal["pixels", "features", "spectrum"]
SAMPLE, BATCH = 2048, 128  # items whose mean vector is taken, and those that are encoded at a time


class Decoder(nn.Module):
    """A transformer of few layers over the visible tokens and a placeholder for each patch that it fills in.

    Args:
        grid: of the patches.
        given: width of the encoder's tokens.
        width, layers, heads: of the decoder.
        values: numbers it predicts of a patch.
    """

    def __init__(self, grid: Grid, given: int, *, width: int, layers: int, heads: int, values: int) -> None:
        super().__init__()
        self.into = nn.Linear(given, width)
        self.hidden = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("positions", positions(grid, width))
        self.layers = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
                for _ in range(layers)
            )
        )
        self.out = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, values))

    def forward(self, tokens: Tensor, visible: Tensor, decoded: Tensor) -> Tensor:
        """Predictions `[n, decoded, values]` from tokens `[n, visible, given]` of the patches `visible`."""
        places = self.get_buffer("positions")
        states = torch.cat([self.into(tokens) + places[visible], self.hidden + places[decoded]], 1)
        found: Tensor = self.out(self.layers(states)[:, tokens.shape[1] :])
        return found

    @staticmethod
    def wanted(targets: Tensor, decoded: Tensor) -> Tensor:
        """The targets of the patches to predict."""
        return picked(targets, decoded)


class SpectrumHead(nn.Module):
    """A linear map from the mean of the visible tokens to the spectrum of the whole window of a series.

    After QualityFM's loss on power spectra; only its abstract was read.

    Args:
        given: width of the encoder's tokens.
        values: frequencies.
    """

    def __init__(self, given: int, values: int) -> None:
        super().__init__()
        self.out = nn.Linear(given, values)

    def forward(self, tokens: Tensor, visible: Tensor, decoded: Tensor) -> Tensor:
        """Predictions `[n, 1, values]`, in the form of `Decoder`."""
        found: Tensor = self.out(tokens.mean(1, keepdim=True))
        return found

    @staticmethod
    def wanted(targets: Tensor, decoded: Tensor) -> Tensor:
        """The spectra, whatever patches are decoded."""
        return targets

    @staticmethod
    def targets(windows: Tensor) -> Tensor:
        """How strong each frequency of windows `[n, context]` is, `[n, 1, context // 2]`.

        log(1 + |F x|) under a Hann window: where the window begins in a wave is of little account.
        """
        tapered = windows * torch.hann_window(windows.shape[1], periodic=False, device=windows.device)
        found: Tensor = torch.fft.rfft(tapered).abs()[:, None, 1:].log1p()
        return found


class MaskedModule(TrainedModule):
    """Encoder, decoder and heads as the only module of a model in training. The loss gives it the inputs.

    Args:
        body: the encoder.
        decoder: fills in hidden patches, or the spectrum of the window.
        seen: predicts the visible patches; None without such a loss.
        vector: predicts the teacher's vector from the mean token; None without a teacher.
    """

    def __init__(
        self, body: Body, decoder: Decoder | SpectrumHead, seen: nn.Module | None, vector: nn.Module | None
    ) -> None:
        super().__init__()
        self.body, self.decoder, self.seen, self.vector = body, decoder, seen, vector

    def preprocess(self, inputs: list[str], prompt: str | None = None, **kwargs: Any) -> dict[str, Tensor]:
        """No features: the inputs are empty."""
        return {"rows": torch.zeros(len(inputs))}

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """The features with `tokens` and `sentence_embedding`, their mean, of `inputs`.

        With `visible` and `decoded`, see `Masks`, of the visible patches alone, and with `predictions` of the others.
        """
        tokens = self.body.embedded(features["inputs"])
        visible = features.get("visible")
        if visible is not None:
            views = len(visible) // len(tokens)
            tokens = picked(tokens.repeat_interleave(views, 0), visible)
        tokens = self.body.encoded(tokens)
        found = {**features, "tokens": tokens, "sentence_embedding": tokens.mean(1)}
        if visible is not None:
            found["predictions"] = self.decoder(tokens, visible, features["decoded"])
        return found


def masked_model(
    shape: EncoderShape,
    modality: Modality,
    *,
    decoder: dict[str, int],
    target: Target,
    seen: bool,
    vector: bool,
    device: str,
) -> SentenceTransformer:
    """A model with random weights, for the trainer.

    Args:
        shape: of the encoder.
        modality: that it reads.
        decoder: its width, layers and heads.
        target: what is predicted; see `MaskedLoss`.
        seen, vector: whether the module has these heads.
        device: where it is trained.
    """
    body = BODIES[modality](shape)
    width, values = body.width, body.width if target == "features" else body.values
    filling: Decoder | SpectrumHead = Decoder(body.grid, width, **decoder, values=values)
    if target == "spectrum":
        filling = SpectrumHead(width, shape.context // 2)
    heads = (_head(width, values) if seen else None, _head(width, width) if vector else None)
    module = MaskedModule(body, filling, *heads)
    return SentenceTransformer(modules=[module], device=device)


@torch.no_grad()
def centre(model: SentenceTransformer, items: Unlabelled) -> float:
    """Make the mean vector of items 0, so that cosines tell them apart.

    Returns:
        The variance of their vectors as a share of the squared length of the mean vector; infinite if that was 0.
    """
    module: Any = model[0]
    model.eval()
    parts = torch.arange(0, len(items), max(1, len(items) // SAMPLE)).split(BATCH)
    inputs = (items.inputs(part.tolist()).to(model.device) for part in parts)
    vectors = torch.cat([module({"inputs": entry})["sentence_embedding"].float() for entry in inputs])
    mean = vectors.mean(0)
    module.body.centre(mean)
    return float((vectors - mean).square().sum(1).mean() / mean.square().sum())


def _head(given: int, wanted: int) -> nn.Module:
    return nn.Sequential(nn.Linear(given, given), nn.LayerNorm(given), nn.GELU(), nn.Linear(given, wanted))


def picked(rows: Tensor, places: Tensor) -> Tensor:
    """The rows `[n, m, d]` at `places` `[n, m]` of each item of `rows` `[n, patches, d]`."""
    return rows.gather(1, places[..., None].expand(-1, -1, rows.shape[2]))
