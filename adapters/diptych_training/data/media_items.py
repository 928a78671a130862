"""Media with texts, for the recipes `image_text`, `sound_text`, ...: read from JSON lines or CSV, held in memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor, nn

from diptych.errors import DocumentError, MediaError
from diptych.media import Content, MediaConfig, MediaStore
from diptych_adapters.media_text.network import Form

GREY = (0.299, 0.587, 0.114)  # brightness of red, green and blue
SEPARATOR = "|"  # between the texts of a CSV file
STILL = "image"  # what rows of clips may name instead


@dataclass(frozen=True, slots=True)
class Items:
    """Media and the texts that belong to them.

    Args:
        inputs: `[inputs, ...]`, the parts of the items as their form makes them.
        places: of each row, its input.
        groups: of each row, what it is; texts of a row are right for all rows of its group.
        texts: of each row, the numbers of its texts, the main one first.
        names: all texts, each once.
        count: how many items there are; one may have several inputs.
    """

    inputs: Tensor
    places: Sequence[int]
    groups: Sequence[str]
    texts: Sequence[Sequence[int]]
    names: Sequence[str]
    count: int

    def __len__(self) -> int:
        return len(self.places)

    def of(self, rows: Iterable[int]) -> Items:
        """Some of the rows; all inputs and texts stay."""
        kept = list(rows)
        return replace(
            self,
            places=[self.places[row] for row in kept],
            groups=[self.groups[row] for row in kept],
            texts=[self.texts[row] for row in kept],
        )

    def split(self, share: float, seed: int) -> tuple[Items, Items]:
        """Rows to train on and rows held out, whose groups no other row has."""
        groups = sorted({*self.groups})
        order = np.random.default_rng(seed).permutation(len(groups))
        held = {groups[place] for place in order[: round(share * len(groups))]}
        rows = range(len(self))
        return (
            self.of(row for row in rows if self.groups[row] not in held),
            self.of(row for row in rows if self.groups[row] in held),
        )


class Relevant:
    """Tells whether a text is right for a group, that is, whether one of its rows has the text.

    Args:
        items: with all their rows.
    """

    def __init__(self, items: Items) -> None:
        self._numbers = {group: number for number, group in enumerate(dict.fromkeys(items.groups))}
        self._texts = len(items.names)
        pairs = zip(items.groups, items.texts, strict=True)
        self._keys = np.unique([self._numbers[group] * self._texts + text for group, own in pairs for text in own])

    def matrix(self, texts: Sequence[int], groups: Sequence[str]) -> Tensor:
        """Bool `[texts, groups]`."""
        numbers = np.array([self._numbers.get(group, -1) for group in groups])
        keys = numbers[None] * self._texts + np.array(texts)[:, None]
        return torch.from_numpy(np.isin(keys, self._keys) & (numbers >= 0)[None])


def read_items(path: Path, form: Form) -> Items:
    """The items of a file, each as the parts that the form makes of it; a row for each part.

    Args:
        path: JSON lines `{"image", "texts", "group"?}`, or CSV with these columns, texts separated by `|`; `sound` or
            `video` in place of `image`. Rows of clips may name an `image`, a clip that stands still.
            Files are below the file's folder, their paths relative to it. Several rows may name one item.
        form: of the network.

    Raises:
        DocumentError: a row is not valid, or a file cannot be read; file and line are named.
    """
    store, seen = MediaStore(MediaConfig(), path.parent), dict[tuple[str, str], range]()
    modalities = (form.of, *([STILL] if form.of == "video" else []))
    inputs: list[Tensor] = []
    names: dict[str, int] = {}
    places, groups, texts = [], [], []
    for where, row in _rows(path, modalities):
        item = next((modality, row[modality]) for modality in modalities if row.get(modality))
        if item not in seen:
            parts = form.parts(_read(store, *item, where))
            seen[item] = range(len(inputs), len(inputs) + len(parts))
            inputs += parts
        group = row.get("group")
        own_texts = [names.setdefault(text, len(names)) for text in dict.fromkeys(row["texts"])]
        for place in seen[item]:
            places.append(place)
            groups.append(item[1] if group in (None, "") else str(group))
            texts.append(own_texts)
    if not inputs:
        raise DocumentError(f"there is nothing of modality {form.of}", where=path, got="no rows")
    return Items(torch.stack(inputs), places, groups, texts, list(names), len(seen))


def _rows(path: Path, modalities: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines: Iterable[Any] = csv.DictReader(file) if path.suffix == ".csv" else filter(str.strip, file)
            for number, line in enumerate(lines, 2 if path.suffix == ".csv" else 1):
                where = f"{path}, line {number}"
                yield where, _checked(line, where, modalities)
    except OSError as error:
        raise DocumentError("cannot read the items", where=path, got=error.strerror or str(error)) from error


def _checked(line: Any, where: str, modalities: Sequence[str]) -> Mapping[str, Any]:
    try:
        row = json.loads(line) if isinstance(line, str) else dict(line)
        texts = row["texts"].split(SEPARATOR) if isinstance(row["texts"], str) else row["texts"]
        row["texts"] = [text.strip() for text in texts]
        named = [row[modality] for modality in modalities if row.get(modality)]
        usable = isinstance(texts, list) and len(named) == 1 and isinstance(named[0], str)
        usable = usable and all((texts, *row["texts"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        usable = False
    if not usable:
        expected = f'{{"{modalities[0]}": "path", "texts": ["name", ...], "group"?: "what it is"}}'
        what = f"a row is not {modalities[0]} with texts"
        raise DocumentError(what, where=where, got=repr(line)[:80], expected=expected)
    return row


def _read(store: MediaStore, modality: str, path: str, where: str) -> Content:
    """An item, decoded within the limits of media."""
    try:
        return store.content(store.take(modality, path))
    except MediaError as error:
        raise DocumentError(f"an item of modality {modality} cannot be read", where=where, got=str(error)) from error


def augment_pictures(pixels: Tensor, strength: float) -> Tensor:
    """Pictures turned, scaled, shifted, recoloured, blurred and partly covered at random, as another artist might.

    Args:
        pixels: float32 `[n, 3, size, size]` from -1 to 1.
        strength: 0 leaves them as they are; 1 turns by up to 20 degrees and scales by up to a quarter.
    """
    if strength == 0:
        return pixels
    return Changes.drawn(len(pixels), strength, pixels.device).made(pixels)


class Changes(NamedTuple):
    """What is done to `n` pictures.

    Args:
        places: `[n, 2, 3]`, where their pixels come from.
        contrast, brightness, saturation, blur: `[n, 1, 1, 1]`.
        mix: `[n, 3, 3]`, of colours.
    """

    places: Tensor
    contrast: Tensor
    brightness: Tensor
    mix: Tensor
    saturation: Tensor
    blur: Tensor

    @classmethod
    def drawn(cls, n: int, strength: float, device: torch.device) -> Self:
        """Changes at random."""

        def drawn(*shape: int) -> Tensor:
            return (torch.rand(n, *shape, device=device) * 2 - 1) * strength

        angle, scale = drawn() * 0.35, (drawn(2) * 0.25).exp()
        cosine, sine = angle.cos(), angle.sin()
        turn = torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1) * scale[:, None]
        return cls(
            torch.cat([turn, drawn(2, 1) * 0.15], 2),
            (drawn(1, 1, 1) * 0.4).exp(),
            drawn(1, 1, 1) * 0.2,
            torch.eye(3, device=device) + drawn(3, 3) * 0.15,
            1 + drawn(1, 1, 1) * 0.6,
            torch.rand(n, 1, 1, 1, device=device) * strength,
        )

    def made(self, pixels: Tensor) -> Tensor:
        """The pictures with these changes."""
        grid = nn.functional.affine_grid(self.places, list(pixels.shape), align_corners=False)
        moved = nn.functional.grid_sample(pixels - 1, grid, align_corners=False) + 1  # white is 1, as is what moves in
        coloured = torch.einsum("nij,njhw->nihw", self.mix, moved - 1) + 1
        grey = (coloured * torch.tensor(GREY, device=pixels.device)[None, :, None, None]).sum(1, keepdim=True)
        coloured = (grey + (coloured - grey) * self.saturation) * self.contrast + self.brightness
        blurred = nn.functional.avg_pool2d(coloured, 3, 1, 1, count_include_pad=False)
        return (coloured + (blurred - coloured) * self.blur).clamp(-1, 1)
