"""Batches with a fixed share of labelled rows; the others are unlabelled."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from diptych.errors import ContractError
from diptych_training.samplers import Batches


class MixedBatches:
    """A sampler whose batches have a share of labelled rows, however few there are.

    No row is repeated within a batch; a part with fewer rows than its share gives all of them. An epoch is as long as
    the larger part takes. Kang et al. train two heads in this way, with as many labelled as unlabelled rows a step.

    Args:
        labelled: whether each row is `[rows]`.
        share: of a batch that is labelled.

    Raises:
        ContractError: one of the parts is empty.
    """

    def __init__(self, labelled: ArrayLike, *, share: float = 0.5) -> None:
        is_labelled = np.asarray(labelled, np.bool_)
        self.parts, self.share = (np.flatnonzero(is_labelled), np.flatnonzero(~is_labelled)), share
        if not all(map(len, self.parts)) or not 0 < share < 1:
            got = f"{len(self.parts[0])} labelled, {len(self.parts[1])} unlabelled, share {share}"
            raise ContractError(
                "batches of two parts need both", where="MixedBatches", got=got, expected="rows of both kinds"
            )

    def __call__(self, dataset: Any, batch_size: int, drop_last: bool, **kwargs: Any) -> Batches:
        """The sampler of one training.

        Raises:
            ContractError: it was made for another data set.
        """
        rows = sum(map(len, self.parts))
        if len(dataset) != rows:
            got, expected = f"{len(dataset)} rows", f"{rows} rows"
            raise ContractError("made for another data set", where="MixedBatches", got=got, expected=expected)
        sizes = self.sizes(batch_size)
        count = max(math.ceil(len(part) / size) for part, size in zip(self.parts, sizes, strict=True))
        return Batches(self._batch, count, dataset, batch_size, drop_last, kwargs.get("seed", 0))

    def sizes(self, batch_size: int) -> tuple[int, int]:
        """The number of rows of each part in a batch."""
        labelled = min(max(1, round(self.share * batch_size)), len(self.parts[0]), max(1, batch_size - 1))
        return labelled, min(batch_size - labelled, len(self.parts[1])) or 1

    def _batch(self, random: np.random.Generator, size: int) -> list[int]:
        parts = [
            random.choice(part, count, replace=False) for part, count in zip(self.parts, self.sizes(size), strict=True)
        ]
        return [int(row) for row in np.concatenate(parts)]
