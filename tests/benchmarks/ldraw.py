"""Point clouds of LDraw's parts with their descriptions, from the files of Debian's package ldraw-parts-free.

    apt-get download ldraw-parts-free && dpkg -x ldraw-parts-free_*.deb build/ldraw

Format: https://www.ldraw.org/article/218.html, lines of type 1 (another file, moved), 3 (triangle) and 4 (quad).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
FOLDERS = ("parts", "p", "parts/s", "p/48")
SPECIAL = re.compile(r"^[~=_|]|\b(pattern|sticker|moved to|obsolete|alias|with .* print)\b", re.IGNORECASE)
DEEPEST = 12  # files within files


class Parts:
    """The plain parts, without prints, stickers and aliases, in the order of their files.

    Args:
        root: the folder that has `parts` and `p`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._triangles = cache(self._read)
        self.descriptions: dict[str, str] = {}
        for path in sorted((root / "parts").glob("*.dat")):
            with path.open(encoding="latin-1") as file:
                description = " ".join(file.readline()[1:].split())
            if not SPECIAL.search(description):
                self.descriptions[path.stem] = description

    def surface(self, part: str) -> Doubles:
        """The triangles of a part, `[n, 3, 3]`; none if it has no surface."""
        return self._triangles(f"{part}.dat", 0)

    def _read(self, name: str, depth: int) -> Doubles:
        path = next((own for folder in FOLDERS if (own := self._root / folder / name).is_file()), None)
        if path is None or depth > DEEPEST:
            return np.zeros((0, 3, 3))
        found = [np.zeros((0, 3, 3))]
        for fields in map(str.split, path.read_text("latin-1").splitlines()):
            if fields[:1] == ["3"]:
                found.append(np.array(fields[2:11], float).reshape(1, 3, 3))
            elif fields[:1] == ["4"]:
                corners = np.array(fields[2:14], float).reshape(4, 3)
                found.append(corners[[[0, 1, 2], [0, 2, 3]]])
            elif fields[:1] == ["1"]:
                values = np.array(fields[2:14], float)
                inner = self._triangles(" ".join(fields[14:]).lower().replace("\\", "/"), depth + 1)
                found.append(inner @ values[3:].reshape(3, 3).T + values[:3])
        return np.concatenate(found)


def cloud(triangles: Doubles, count: int, random: np.random.Generator) -> Doubles:
    """Points `[count, 3]` drawn evenly from the surface of triangles."""
    edges = triangles[:, 1:] - triangles[:, :1]
    areas = np.linalg.norm(np.cross(edges[:, 0], edges[:, 1]), axis=1)
    chosen = random.choice(len(triangles), count, p=areas / areas.sum())
    low, high = np.sort(random.random((2, count)), axis=0)[:, :, None]
    corners = triangles[chosen]
    points: Doubles = corners[:, 0] * low + corners[:, 1] * (high - low) + corners[:, 2] * (1 - high)
    return points


def rotation(random: np.random.Generator) -> Doubles:
    """A rotation drawn evenly from all, `[3, 3]`."""
    w, x, y, z = (values := random.normal(size=4)) / np.linalg.norm(values)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
