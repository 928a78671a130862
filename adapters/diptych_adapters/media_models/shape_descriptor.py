"""`ShapeDescriptor`: point clouds as vectors that rotations do not change, without training.

The points at each distance from the centre form a function on a sphere, which is expanded in spherical harmonics. A
rotation does not change the products of the coefficients of one degree, summed over its orders: the power spectrum
(Kazhdan, Funkhouser and Rusinkiewicz, "Rotation Invariant Spherical Harmonic Representation of 3D Shape Descriptors",
SGP 2003). Products of two shells say how these are turned against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property, lru_cache
from math import factorial, pi, sqrt
from typing import Any

import numpy as np
from numpy.polynomial import legendre, polynomial
from numpy.typing import NDArray

from diptych.errors import ContractError, brief
from diptych.media import Content
from diptych.protocols import Fingerprint, Similarity
from diptych.types import Floats
from diptych_adapters.model_options import ShapeDescriptorOptions

VERSION = 1  # of the formula
FARTHEST = 2.0  # distance of the outermost shell from the centre, in units of the points' root mean square distance
BLOCK = 1 << 15  # points whose harmonics are held in memory at a time
CENTRE = 1e-9  # below this distance a point has no direction

Doubles = NDArray[np.float64]
Complex = NDArray[np.complex128]


class ShapeDescriptor:
    """One vector for each point cloud: the same for any rotation, reflection, shift, size and order of its points.

    Args:
        options: how fine it is; see `ShapeDescriptorOptions`.
    """

    similarity: Similarity = "cosine"

    def __init__(self, **options: Any) -> None:
        self.options = ShapeDescriptorOptions(**options)

    @cached_property
    def dimension(self) -> int:
        """Numbers of a vector: a value for each degree and pair of shells."""
        shells = self.options.shells
        return (self.options.degrees + 1) * shells * (shells + 1) // 2

    @property
    def fingerprint(self) -> Fingerprint:
        """The formula and how fine it is."""
        return Fingerprint(f"shape-descriptor {VERSION} {self.options.shells} {self.options.degrees}")

    def encode_query(self, inputs: Sequence[Content]) -> Floats:
        """Vectors of query clouds, float32 `[n, dimension]`."""
        return self.encode_document(inputs)

    def encode_document(self, inputs: Sequence[Content]) -> Floats:
        """Vectors of clouds `[points, 3]`, float32 `[n, dimension]`, at unit length.

        Raises:
            ContractError: an input is not a cloud.
        """
        vectors = np.zeros((len(inputs), self.dimension), np.float32)
        for row, cloud in enumerate(inputs):
            vectors[row] = descriptor(_checked(cloud), self.options.shells, self.options.degrees)
        return vectors


def descriptor(points: NDArray[Any], shells: int, degrees: int) -> Doubles:
    """The rotation-invariant vector of a cloud `[n, 3]`, `[(degrees + 1) shells (shells + 1) / 2]`, at unit length.

    The square root evens out values whose sizes differ a thousandfold. A point's product with itself is left out:
    it says how many points there are, not where.
    """
    power = power_spectrum(unit_sized(points), shells, degrees)
    upper = np.triu_indices(shells)
    values = power[:, *upper].ravel()
    values = np.sign(values) * np.sqrt(np.abs(values))
    length = float(np.linalg.norm(values))
    return values / length if length > CENTRE**0.5 else np.eye(1, len(values))[0]  # the values of a single point are 0


def unit_sized(points: NDArray[Any]) -> Doubles:
    """The points about their mean, at a root mean square distance of 1; points in one place stay at 0."""
    centred = np.asarray(points, np.float64) - np.mean(points, axis=0, dtype=np.float64)
    centred /= max(float(np.abs(centred).max()), np.finfo(np.float64).tiny)  # squares of huge values would overflow
    size = sqrt(float((centred**2).sum(axis=1).mean()))
    return centred / size if size > CENTRE else np.zeros_like(centred)


def power_spectrum(points: Doubles, shells: int, degrees: int) -> Doubles:
    """Sums over the orders m of `a[l, m, s] conj(a[l, m, t])`, `[degrees + 1, shells, shells]`.

    `a[l, m, s]` is the mean over the points of the spherical harmonic of their direction, weighted by their nearness
    to shell s; of each sum the products of points with themselves are subtracted.
    """
    sums = np.zeros((shells, (degrees + 1) * (degrees + 2) // 2), np.complex128)
    own = np.zeros((2, shells, shells))  # products of points with themselves, in all and of those with a direction
    for start in range(0, len(points), BLOCK):
        block = points[start : start + BLOCK]
        radii = np.linalg.norm(block, axis=1)
        weights = _nearness(radii, shells)
        directed = radii > CENTRE
        sums += weights.T @ _harmonics(block / np.where(directed, radii, 1)[:, None], directed, degrees)
        own += weights.T @ weights, weights[directed].T @ weights[directed]
    means, power = sums / len(points), np.empty((degrees + 1, shells, shells))
    for degree in range(degrees + 1):
        start = degree * (degree + 1) // 2
        part = means[:, start : start + degree + 1]
        twice = np.where(np.arange(degree + 1) > 0, 2.0, 1.0)  # orders -m and m have equal products
        density = (2 * degree + 1) / (4 * pi) / len(points) ** 2
        power[degree] = ((part * twice) @ part.conj().T).real - density * own[int(degree > 0)]
    return power


def _nearness(radii: Doubles, shells: int) -> Doubles:
    """Weights `[n, shells]` of linear interpolation between the shells; all beyond the last belongs to it."""
    places = np.clip(radii / FARTHEST * shells - 0.5, 0, shells - 1)
    return np.asarray(np.maximum(0.0, 1 - np.abs(places[:, None] - np.arange(shells))))


def _harmonics(directions: Doubles, directed: NDArray[np.bool_], degrees: int) -> Complex:
    """Spherical harmonics of unit vectors, orders 0 to l of each degree l, `[n, (degrees + 1) (degrees + 2) / 2]`."""
    height, turn = directions[:, 2], directions[:, 0] + 1j * directions[:, 1]
    turns = np.stack([turn**order for order in range(degrees + 1)])
    columns = [
        polynomial.polyval(height, factors) * turns[order]
        for degree in range(degrees + 1)
        for order, factors in enumerate(_polynomials(degree))
    ]
    values: Complex = np.stack(columns, axis=1).astype(np.complex128)
    values[~directed, 1:] = 0
    return values


@lru_cache(maxsize=64)
def _polynomials(degree: int) -> list[Doubles]:
    """For each order m, the powers of z in the m-th derivative of the Legendre polynomial, normalised."""
    found: list[Doubles] = []
    series = legendre.leg2poly([0.0] * degree + [1.0])
    for order in range(degree + 1):
        scale = sqrt((2 * degree + 1) / (4 * pi) * factorial(degree - order) / factorial(degree + order))
        found.append(np.asarray(scale * polynomial.polyder(series, order), np.float64))
    return found


def _checked(cloud: Content) -> NDArray[Any]:
    array = cloud if isinstance(cloud, np.ndarray) else np.zeros(0)
    if array.ndim != 2 or array.shape[1] != 3 or not array.size or not np.isfinite(array).all():
        got = f"{cloud.dtype} {list(cloud.shape)}" if isinstance(cloud, np.ndarray) else brief(cloud)
        raise ContractError(
            "the content is not a point cloud",
            where="adapter shape-descriptor",
            got=got,
            expected="finite numbers [n, 3]",
            do="set `of: points` in the slot, and search it by points",
        )
    return array
