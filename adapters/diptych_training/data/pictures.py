"""Pictures with texts, for the recipe `image_text`: read from JSON lines or CSV, held in memory, and varied."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diptych.errors import DocumentError, MediaError
from diptych.media import MediaConfig, MediaStore
from diptych_adapters.image_text.network import fitted

SEPARATOR = "|"  # between the texts of a CSV file
GREY = (0.299, 0.587, 0.114)  # brightness of red, green and blue


@dataclass(frozen=True, slots=True)
class Pictures:
    """Pictures and the texts that belong to them.

    Args:
        pixels: uint8 `[pictures, 3, size, size]`.
        pictures: of each row, its picture.
        groups: of each row, what it shows; texts of a row are right for all rows of its group.
        texts: of each row, the numbers of its texts, the main one first.
        names: all texts, each once.
    """

    pixels: Tensor
    pictures: Sequence[int]
    groups: Sequence[str]
    texts: Sequence[Sequence[int]]
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.pictures)

    def of(self, rows: Iterable[int]) -> Pictures:
        """Some of the rows; all pixels and texts stay."""
        kept = list(rows)
        return replace(
            self,
            pictures=[self.pictures[row] for row in kept],
            groups=[self.groups[row] for row in kept],
            texts=[self.texts[row] for row in kept],
        )

    def split(self, share: float, seed: int) -> tuple[Pictures, Pictures]:
        """Rows to train on and rows held out, whose groups no other row has."""
        groups = sorted({*self.groups})
        order = np.random.default_rng(seed).permutation(len(groups))
        held = {groups[place] for place in order[: round(share * len(groups))]}
        places = range(len(self))
        return (
            self.of(row for row in places if self.groups[row] not in held),
            self.of(row for row in places if self.groups[row] in held),
        )

    def relevant(self) -> Relevant:
        """Which texts are right for which groups."""
        return Relevant(self)


class Relevant:
    """Tells whether a text is right for a group, that is, whether one of its rows has the text.

    Args:
        pictures: the pictures with their rows.
    """

    def __init__(self, pictures: Pictures) -> None:
        self._numbers = {group: number for number, group in enumerate(dict.fromkeys(pictures.groups))}
        self._texts = len(pictures.names)
        pairs = zip(pictures.groups, pictures.texts, strict=True)
        self._keys = np.unique([self._numbers[group] * self._texts + text for group, own in pairs for text in own])

    def matrix(self, texts: Sequence[int], groups: Sequence[str]) -> Tensor:
        """Bool `[texts, groups]`."""
        numbers = np.array([self._numbers.get(group, -1) for group in groups])
        keys = numbers[None] * self._texts + np.array(texts)[:, None]
        return torch.from_numpy(np.isin(keys, self._keys) & (numbers >= 0)[None])


def read_pictures(path: Path, size: int) -> Pictures:
    """The pictures of a file, scaled to `size` pixels a side.

    Args:
        path: JSON lines `{"image", "texts", "group"?}`, or CSV with these columns, texts separated by `|`. Images
            are below the file's folder, their paths relative to it. Several rows may name one picture.
        size: of the network.

    Raises:
        DocumentError: a row is not usable, or an image cannot be read; file and line are named.
    """
    store, seen = MediaStore(MediaConfig(), path.parent), dict[str, int]()
    pixels: list[Tensor] = []
    names: dict[str, int] = {}
    pictures, groups, texts = [], [], []
    for where, row in _rows(path):
        image = row["image"]
        if image not in seen:
            seen[image] = len(pixels)
            pixels.append(fitted(_read(store, image, where), size))
        pictures.append(seen[image])
        group = row.get("group")
        groups.append(image if group in (None, "") else str(group))
        texts.append([names.setdefault(text, len(names)) for text in dict.fromkeys(row["texts"])])
    if not pixels:
        raise DocumentError("there are no pictures", where=path, got="no rows")
    return Pictures(torch.stack(pixels), pictures, groups, texts, list(names))


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines: Iterable[Any] = csv.DictReader(file) if path.suffix == ".csv" else filter(str.strip, file)
            for number, line in enumerate(lines, 2 if path.suffix == ".csv" else 1):
                where = f"{path}, line {number}"
                yield where, _checked(line, where)
    except OSError as error:
        raise DocumentError("cannot read the pictures", where=path, got=error.strerror or str(error)) from error


def _checked(line: Any, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line) if isinstance(line, str) else dict(line)
        texts = row["texts"].split(SEPARATOR) if isinstance(row["texts"], str) else row["texts"]
        row["texts"] = [text.strip() for text in texts]
        usable = isinstance(texts, list) and isinstance(row["image"], str) and all((row["image"], texts, *row["texts"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        usable = False
    if not usable:
        expected = '{"image": "path.png", "texts": ["name", ...], "group"?: "what it shows"}'
        raise DocumentError("a row is not a picture with texts", where=where, got=repr(line)[:80], expected=expected)
    return row


def _read(store: MediaStore, image: str, where: str) -> Any:
    """A picture as uint8 `[height, width, 3]`, read within the limits of media."""
    try:
        return store.content(store.take("image", image))
    except MediaError as error:
        raise DocumentError("a picture cannot be read", where=where, got=str(error)) from error


def varied(pixels: Tensor, strength: float) -> Tensor:
    """Pictures turned, scaled, shifted, recoloured, blurred and partly covered at random, as another artist might.

    Args:
        pixels: float32 `[n, 3, size, size]` from -1 to 1.
        strength: 0 leaves them as they are; 1 turns by up to 20 degrees and scales by up to a quarter.
    """
    if strength == 0:
        return pixels
    n, device = len(pixels), pixels.device

    def drawn(*shape: int) -> Tensor:
        return (torch.rand(n, *shape, device=device) * 2 - 1) * strength

    angle, scale = drawn() * 0.35, (drawn(2) * 0.25).exp()
    cosine, sine = angle.cos(), angle.sin()
    turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1) * scale[:, None]
    grid = nn.functional.affine_grid(torch.cat([turn, drawn(2, 1) * 0.15], 2), list(pixels.shape), align_corners=False)
    moved = nn.functional.grid_sample(pixels - 1, grid, align_corners=False) + 1  # white is 1, as is what moves in
    contrast, brightness = (drawn(1, 1, 1) * 0.4).exp(), drawn(1, 1, 1) * 0.2
    mix = torch.eye(3, device=device) + drawn(3, 3) * 0.15  # other hues
    coloured = torch.einsum("nij,njhw->nihw", mix, moved - 1) + 1
    grey = (coloured * torch.tensor(GREY, device=device)[None, :, None, None]).sum(1, keepdim=True)
    saturation = 1 + drawn(1, 1, 1) * 0.6
    coloured = (grey + (coloured - grey) * saturation) * contrast + brightness
    blurred = nn.functional.avg_pool2d(coloured, 3, 1, 1, count_include_pad=False)
    share = torch.rand(n, 1, 1, 1, device=device) * strength
    return (coloured + (blurred - coloured) * share).clamp(-1, 1)
