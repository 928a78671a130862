"""The first halves of the networks: from pictures, spectrograms, clips or descriptors to features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

GRID = 3  # cells a side that the last feature map is averaged into: flags differ by where their colours are


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


class Frames(nn.Module):
    """A body of pictures over the frames of clips: the mean of the frames' features, and how much they change.

    A frame equal to the one before goes through the network once, so a still costs as much as a picture.

    Args:
        width: of the body; see `convolutional`.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frame, features = convolutional(3, width)
        self.features = 2 * features

    def forward(self, clips: Tensor) -> Tensor:
        """Features `[n, features]` of clips `[n, frames, 3, height, width]`."""
        changed = (clips[:, 1:] != clips[:, :-1]).flatten(2).any(2)
        new = torch.cat([changed.new_ones(len(clips), 1), changed], 1).flatten()
        frames = clips.flatten(0, 1)[new].contiguous(memory_format=torch.channels_last)
        features = self.frame(frames)[new.cumsum(0) - 1].unflatten(0, clips.shape[:2])
        change = (features[:, 1:] - features[:, :-1]).abs().mean(1) if clips.shape[1] > 1 else features[:, 0] * 0
        return torch.cat([features.mean(1), change], 1)


class RowNorm(nn.BatchNorm1d):
    """Batch normalisation of vectors; a batch of one row, as at the end of an epoch, uses the running statistics."""

    def forward(self, rows: Tensor) -> Tensor:
        """Rows of the same shape."""
        if len(rows) > 1:
            return super().forward(rows)
        return nn.functional.batch_norm(
            rows, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )


def layered(given: int, width: int) -> tuple[nn.Sequential, int]:
    """Two layers over vectors `[n, given]`, and how many features they make."""
    hidden = 16 * width
    return nn.Sequential(
        RowNorm(given),
        nn.Linear(given, hidden),
        RowNorm(hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        RowNorm(hidden),
        nn.ReLU(),
    ), hidden
