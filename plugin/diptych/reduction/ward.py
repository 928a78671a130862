"""Token pooling: a document's vectors are clustered by Ward's method, and each cluster becomes its mean.

Source: Clavié, Chaffin and Adams, "Reducing the Footprint of Multi-Vector Retrieval with Minimal Performance Impact via
Token Pooling", 2024.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diptych.protocols import Similarity
from diptych.types import Floats

EDITION = 1  # part of fingerprints; raise it when `reduced` makes other vectors from the same input


def reduced(vectors: Floats, keep: int, similarity: Similarity) -> Floats:
    """At most `keep` vectors, float32 `[keep, dimension]`, that stand for `vectors`, float32 `[tokens, dimension]`.

    If vectors are compared by cosine, they are scaled to length 1 first, and so are the means. Input of at most `keep`
    vectors is returned unchanged. So is input that is not a float32 matrix of finite numbers: the caller reports that.
    """
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or len(vectors) <= keep:
        return vectors
    if vectors.dtype != np.float32 or not np.isfinite(vectors).all():
        return vectors
    directions = _unit(vectors) if similarity == "cosine" else vectors
    means = np.stack([directions[members].mean(axis=0) for members in _clusters(directions, keep)])
    return _unit(means) if similarity == "cosine" else means


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-12)), np.float32)


def _clusters(vectors: Floats, keep: int) -> list[NDArray[np.intp]]:
    """The rows of each of `keep` clusters, after the first `tokens - keep` merges of Ward's tree."""
    from scipy.cluster.hierarchy import linkage

    count = len(vectors)
    clusters = {row: [row] for row in range(count)}
    for number, (one, other) in enumerate(linkage(vectors.astype(np.float64), "ward")[: count - keep, :2].astype(int)):
        clusters[count + number] = clusters.pop(one) + clusters.pop(other)
    members = sorted(map(sorted, clusters.values()))
    # Canaries compare the first and the last vector, so these are the clusters of the first and the last token. Which
    # cluster begins last may depend on rounding.
    members.sort(key=lambda rows: rows[-1] == count - 1 and rows[0] != 0)
    return [np.array(rows) for rows in members]
