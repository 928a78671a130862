"""Pictures and clips without texts or labels: read from files or a collection, varied and corrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from diptych import Collection
from diptych.errors import DocumentError, MediaError
from diptych.media import Content, MediaConfig, MediaStore, Modality
from diptych.training import read_media
from diptych_adapters.media_models.readers import Clips, Pictures
from diptych_training.data.media_items import augment_pictures


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Items to learn from.

    Args:
        modality: theirs.
        items: their names.
        rows: of pictures uint8 `[3, size, size]`; of clips `[frames, 3, size, size]`.
    """

    modality: Modality
    items: Sequence[str]
    rows: Sequence[Tensor]

    def __len__(self) -> int:
        return len(self.rows)

    def split(self, share: float, seed: int) -> tuple[Unlabelled, Unlabelled]:
        """The rows of most items, and those of a share of them."""
        order = np.random.default_rng(seed).permutation(len(self.items)).tolist()
        held = {*order[: round(share * len(self.items))]}
        kept, held_out = sorted({*order} - held), sorted(held)
        return self._of(kept), self._of(held_out)

    def _of(self, places: Sequence[int]) -> Unlabelled:
        items, rows = ([own[place] for place in places] for own in (self.items, self.rows))
        return replace(self, items=items, rows=rows)  # type: ignore[arg-type]  # one of names, one of tensors

    def digests(self) -> list[dict[str, str]]:
        """Each item with a digest of its content, as it is held in memory."""
        parts = zip(self.items, self.rows, strict=True)
        return [{"item": name, "digest": hashlib.sha256(row.numpy().tobytes()).hexdigest()[:16]} for name, row in parts]

    def inputs(self, rows: Sequence[int], *, augment: float = 0.0) -> Tensor:
        """The inputs of an encoder: pictures and clips from -1 to 1.

        Args:
            rows: their numbers.
            augment: of pictures, see `augment_pictures`.
        """
        pixels = torch.stack([self.rows[row] for row in rows]).float() / 127.5 - 1
        return augment_pictures(pixels, augment) if self.modality == "image" else pixels


def read_unlabelled(
    modality: Modality, contents: Iterator[tuple[str, Content]], *, processor: Any, frames: int
) -> Unlabelled:
    """The items of one modality, as an encoder takes them; all are held in memory.

    Args:
        modality: of the items.
        contents: their names and decoded contents.
        processor: makes the input; see `PictureBody`.
        frames: of clips, how many are read.

    Raises:
        DocumentError: there is nothing.
    """
    reader = Pictures(processor) if modality == "image" else Clips(processor, frames)
    items, rows = list[str](), list[Tensor]()
    for name, content in contents:
        assert isinstance(content, np.ndarray), "sounds are not read here"
        (part,) = reader.parts(content)
        items.append(name)
        rows.append(((part.features["pixel_values"][0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8))
    if not rows:
        raise DocumentError(
            f"there is no {modality} to learn from",
            where="data",
            got="nothing",
            expected=f"items with {modality}",
            do="name what holds them, or say `of` what is there",
        )
    return Unlabelled(modality, items, rows)


def contents_of(
    modality: Modality, *, corpus: Path | None = None, column: str | None = None, collection: Path | None = None
) -> Iterator[tuple[str, Content]]:
    """Names and contents of media: those of files, of documents in a file, or of a collection's documents.

    Args:
        modality: what is read; documents without it are skipped.
        corpus: a folder or file, see `read_media`; paths in a file start from its folder.
        column: of such a file.
        collection: a diptych.yaml.

    Raises:
        DocumentError: an item cannot be read, or is gone or was changed after the collection took it; it is named.
        PopulateError: the source cannot be read.
        ConfigError, StoreError, CollectionError: the collection cannot be opened.
    """
    if corpus is not None:
        yield from _of_files(corpus, modality, column)
    if collection is not None:
        yield from _of_collection(collection, modality)


def _of_files(source: Path, modality: Modality, column: str | None) -> Iterator[tuple[str, Content]]:
    store = MediaStore(MediaConfig(), source if source.is_dir() else source.parent)
    for name, item in read_media(source, modality, column=column):
        try:
            yield name, store.content(store.take(modality, item))
        except MediaError as error:
            raise _unreadable(str(source), name, modality, error) from error


def _of_collection(config: Path, modality: Modality) -> Iterator[tuple[str, Content]]:
    with Collection.open(config, create=False) as opened:
        store = opened.handle.media
        for document in opened.documents():
            if modality not in document.media:
                continue
            try:
                yield document.id, store.content(store.take(modality, document.media[modality]))
            except MediaError as error:
                raise _unreadable(f"collection {opened.name!r}", document.id, modality, error) from error


def _unreadable(where: str, name: str, modality: Modality, error: MediaError) -> DocumentError:
    do = "repair it, or leave it out of the source"
    return DocumentError(f"{modality} of {name!r} cannot be read", where=where, got=str(error), do=do)


def corrupted(inputs: Tensor, strength: float, axes: Sequence[int]) -> Tensor:
    """Inputs with noise, a gap, clipped values and a drift, each with a probability of one half.

    Args:
        inputs: float32 `[n, ...]`, with values of about 1.
        strength: 0 leaves them as they are. At 1 the noise's deviation is up to 1, a gap takes up to half of each axis,
            values beyond a limit from 0.5 to 1.5 are clipped, and the drift goes from 0 to a value from -1 to 1.
        axes: of space and time.
    """
    if strength == 0:
        return inputs
    n, ends = len(inputs), [1] * (inputs.ndim - 1)

    def drawn() -> Tensor:
        """A number from 0 to 1 for each item, for half of them 0."""
        return (torch.rand(n, *ends) * (torch.rand(n, *ends) < 0.5)).to(inputs)

    found = inputs + strength * drawn() * torch.randn_like(inputs)
    limit = 1.5 - strength * drawn()
    clipped = limit < 1.5
    found = torch.where(clipped, found.clamp(-limit, limit), found)
    last = axes[-1]
    ramp = torch.linspace(0, 1, inputs.shape[last]).reshape([-1 if axis == last else 1 for axis in range(inputs.ndim)])
    found = found + strength * drawn() * (torch.randint(2, (n, *ends)) * 2 - 1).to(inputs) * ramp.to(inputs)
    gap = torch.ones_like(inputs, dtype=torch.bool)
    wanted = drawn() > 0
    for axis in axes:
        size = inputs.shape[axis]
        length = (strength * torch.rand(n, *ends) * size / 2).to(inputs)
        start = (torch.rand(n, *ends).to(inputs) * (size - length)).floor()
        place = torch.arange(size).reshape([-1 if own == axis else 1 for own in range(inputs.ndim)]).to(inputs)
        gap &= (place >= start) & (place < start + length)
    return found.masked_fill(gap & wanted, 0.0)
