"""Pictures, clips and series without texts or labels: read from files or a collection, varied and corrupted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
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

Read = Callable[[Content], list[Tensor]]  # of an item its rows, as they are held in memory
FLAT = 1e-5  # of a window's variance, as PatchTST has it


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Items to learn from.

    Args:
        modality: theirs.
        items: their names.
        rows: of pictures uint8 `[3, size, size]`, of clips `[frames, 3, size, size]`, of series a channel `[time]`.
        owners: of each row, the number of its item.
        context: of series, the values of a window; 0 for others.
        short: names of series that are shorter than that, which are left out.
    """

    modality: Modality
    items: Sequence[str]
    rows: Sequence[Tensor]
    owners: Sequence[int]
    context: int = 0
    short: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def split(self, share: float, seed: int) -> tuple[Unlabelled, Unlabelled]:
        """The rows of most items, and those of a share of them."""
        order = np.random.default_rng(seed).permutation(len(self.items))
        held = {int(place) for place in order[: round(share * len(self.items))]}
        return self._of(lambda owner: owner not in held), self._of(lambda owner: owner in held)

    def digests(self) -> list[dict[str, str]]:
        """Each item with a digest of its content, as it is held in memory."""
        parts = [hashlib.sha256() for _ in self.items]
        for row, owner in zip(self.rows, self.owners, strict=True):
            parts[owner].update(row.numpy().tobytes())
        return [{"item": name, "digest": part.hexdigest()[:16]} for name, part in zip(self.items, parts, strict=True)]

    def inputs(self, rows: Sequence[int], *, augment: float = 0.0) -> Tensor:
        """The inputs of an encoder: pictures and clips from -1 to 1; a window of each series, drawn and standardised.

        Args:
            rows: their numbers.
            augment: of pictures, see `augment_pictures`.
        """
        if self.modality == "series":
            return torch.stack([self._window(self.rows[row]) for row in rows])
        pixels = torch.stack([self.rows[row] for row in rows]).float() / 127.5 - 1
        return augment_pictures(pixels, augment) if self.modality == "image" else pixels

    def _window(self, values: Tensor) -> Tensor:
        start = int(torch.randint(len(values) - self.context + 1, ()))
        window = values[start : start + self.context]
        return (window - window.mean()) / (window.var(unbiased=False) + FLAT).sqrt()

    def _of(self, kept: Callable[[int], bool]) -> Unlabelled:
        places = [place for place, owner in enumerate(self.owners) if kept(owner)]
        rows, owners = [self.rows[place] for place in places], [self.owners[place] for place in places]
        return replace(self, rows=rows, owners=owners)


def read_unlabelled(
    modality: Modality, contents: Iterator[tuple[str, Content]], *, context: int, processor: Any, frames: int
) -> Unlabelled:
    """The items of one modality, as an encoder takes them; all are held in memory.

    Args:
        modality: of the items.
        contents: their names and decoded contents.
        context: of series, the values of a window.
        processor: of pictures and clips, makes the input; see `PictureBody`.
        frames: of clips, how many are read.

    Raises:
        DocumentError: there is nothing, or no series is long enough.
    """
    read = _reader(modality, processor, frames)
    items: list[str] = []
    rows: list[Tensor] = []
    owners: list[int] = []
    short: list[str] = []
    for name, content in contents:
        found = read(content)
        if modality == "series" and len(found[0]) < context:
            short.append(name)
            continue
        owners += [len(items)] * len(found)
        rows += found
        items.append(name)
    if not rows:
        raise DocumentError(
            f"there is no {modality} to learn from",
            where="data",
            got=f"{len(short):,} series, the first is {short[0]}" if short else "nothing",
            expected=f"series of {context} values and more" if short else f"items with {modality}",
            do="make encoder.context smaller" if short else "name what holds them, or say `of` what is there",
        )
    return Unlabelled(modality, items, rows, owners, context if modality == "series" else 0, short)


def _reader(modality: Modality, processor: Any, frames: int) -> Read:
    if modality == "series":
        return lambda content: [torch.from_numpy(np.array(channel)) for channel in _as_array(content).T]
    reader = Pictures(processor) if modality == "image" else Clips(processor, frames)

    def read(content: Content) -> list[Tensor]:
        (part,) = reader.parts(_as_array(content))
        pixels = part.features["pixel_values"][0]
        return [((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)]

    return read


def _as_array(content: Content) -> Any:
    assert isinstance(content, np.ndarray), "sounds are not read here"
    return content


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
