"""Reduction: fewer vectors for each document of a multi-vector slot.

`ReducedEncoder` wraps an adapter, so that the rest of diptych sees an ordinary multi-vector encoder.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from diptych.errors import AdapterOptionsError, MissingExtra
from diptych.protocols import Fingerprint, MultiVectorEncoder, Similarity
from diptych.types import Floats

_OPTIONAL = ("max_tokens", "token_spans", "sample", "look_at", "unread_share", "normalized")
REDUCE = "reduce"  # the key beside an adapter's own options
EDITION = 1  # part of fingerprints; raise it when `reduced` makes other vectors from the same input


class ReducedEncoder:
    """Reduces each document of the wrapped encoder to at most `options.keep` vectors. Queries keep all of theirs.

    Args:
        inner: the encoder.
        options: how many vectors to keep, and by which method.

    Raises:
        MissingExtra: scipy is not installed.
    """

    def __init__(self, inner: MultiVectorEncoder, options: ReduceOptions) -> None:
        if importlib.util.find_spec("scipy") is None:
            raise MissingExtra("`reduce` needs scipy", where="reduce", do="pip install 'diptych[reduce]'")
        self.inner, self.options = inner, options
        self.dimension, self.similarity = inner.dimension, inner.similarity
        self._rules = hashlib.sha256(f"{EDITION} {options.kind} {options.keep}".encode()).hexdigest()[:12]
        fingerprint = getattr(inner, "fingerprint", None)
        if isinstance(fingerprint, Fingerprint):  # if not, the host derives one from all options, `reduce` included
            mark, documents = f" reduce:{self._rules}", fingerprint.documents
            self.fingerprint = Fingerprint(
                f"{fingerprint.space}{mark}", fingerprint.numerics, documents and f"{documents}{mark}"
            )
        for name in _OPTIONAL:
            if hasattr(inner, name):
                setattr(self, name, getattr(inner, name))

    def __repr__(self) -> str:
        return f"ReducedEncoder({self.inner!r}, {self.options!r})"

    @property
    def identity(self) -> str:
        """As of `Identified`; "" if the encoder has none."""
        identity = getattr(self.inner, "identity", "")
        return f"{identity} {self._rules}" if identity else ""

    def encode_query(self, inputs: Sequence[str]) -> list[Floats]:
        """Token vectors of queries, each float32 `[tokens_i, dimension]`."""
        return self.inner.encode_query(inputs)

    def encode_document(self, inputs: Sequence[str]) -> list[Floats]:
        """Vectors of documents, each float32 `[at most keep, dimension]`."""
        documents = self.inner.encode_document(inputs)
        return [reduced(vectors, self.options.keep, self.similarity) for vectors in documents]


class ReduceOptions(BaseModel):
    """Store fewer vectors for each document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["ward"] = Field("ward", description="Means of clusters of similar vectors, by Ward's method.")
    keep: Annotated[int, Field(ge=1, strict=True)] = Field(
        32, description="Maximum vectors per document, or per passage with `passages`."
    )


def check_keep(options: ReduceOptions, encoder: object, *, tokens: int | None = None, where: str) -> None:
    """Refuse to keep more vectors than there can be tokens, because nothing would be reduced.

    Args:
        options: how many vectors to keep.
        encoder: the wrapped one; without a `max_tokens` it may read any number.
        tokens: the most of a passage, if the slot has passages.
        where: names the slot in the error.

    Raises:
        AdapterOptionsError: `keep` is above what the encoder reads of a document, or above the tokens of a passage.
    """
    most = getattr(encoder, "max_tokens", None)
    limits = {"tokens of a passage": tokens, "tokens of a document that the encoder reads": most}
    known = {name: limit for name, limit in limits.items() if isinstance(limit, int)}
    of, most = min(known.items(), key=lambda item: item[1], default=("", options.keep))
    if options.keep > most:
        expected, do = f"at most {most}, the {of}", "lower keep, or leave `reduce` out"
        what, key = "reduce.keep reduces nothing", f"{REDUCE}.keep"
        raise AdapterOptionsError(what, where=where, got=options.keep, expected=expected, do=do, key=key)


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
