"""Shared by all adapters of pictures. Imports no model library."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDEST = 16  # times as long as wide: of longer pictures the middle is read, since resizing would make them huge


def middle(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The middle of a picture that is more than `WIDEST` times as long as it is wide; else the picture itself."""
    height, width = picture.shape[:2]
    limit = WIDEST * min(height, width)
    top, left = max(0, (height - limit) // 2), max(0, (width - limit) // 2)
    return np.ascontiguousarray(picture[top : top + limit, left : left + limit])
