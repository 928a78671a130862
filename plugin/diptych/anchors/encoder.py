"""`AnchorEncoder`: a reranker's scores of anchors as the vector of a document."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych.anchors.options import ANCHORS
from diptych.errors import AdapterOptionsError, ContractError
from diptych.protocols import Fingerprint, Reranker, Similarity
from diptych.types import Floats

_PAIRS = 8192  # scored in one call


def reranker_space(reranker: Reranker, adapter: str, options: Mapping[str, Any]) -> str:
    """What decides a reranker's scores: the space of its fingerprint, or a digest of what the config says of it."""
    fingerprint = getattr(reranker, "fingerprint", None)
    if isinstance(fingerprint, Fingerprint):
        return fingerprint.space
    own = sorted((key, value) for key, value in options.items() if key != ANCHORS)
    return "declared:" + hashlib.sha256(repr((adapter, own)).encode()).hexdigest()[:16]


def anchors_digest(anchors: Sequence[str]) -> str:
    """The end of the fingerprint of scores of these anchors."""
    return hashlib.sha256("\n".join(anchors).encode()).hexdigest()[:16]


class AnchorEncoder:
    """Encodes a document as the scores that a reranker gives it for each anchor.

    The vector has a number for each anchor, the score less the document's mean over all anchors, and the mean as the
    last one. The mean is most of what scores have in common; a fit that had to explain it would explain little else.

    A query's vector is found by search round by round (`diptych.search.explore`). Before any document is scored it is
    zero for each anchor and 1 for the mean, which is what `encode_query` returns for all queries.

    Args:
        reranker: an independent one.
        anchors: the queries.
        space: of the reranker; see `reranker_space`.
        where: names the slot in errors.
    """

    similarity: Similarity = "dot"

    def __init__(self, reranker: Reranker, anchors: Sequence[str], space: str, *, where: str = "") -> None:
        if not reranker.independent:
            what = "this reranker cannot score anchors: its scores depend on the other candidates"
            raise AdapterOptionsError(what, where=where, got="independent = False", do=f"leave `{ANCHORS}` out")
        self.reranker, self.anchors = reranker, tuple(anchors)
        self.dimension = len(self.anchors) + 1
        digest = anchors_digest(self.anchors)
        numerics = getattr(getattr(reranker, "fingerprint", None), "numerics", "")
        self.fingerprint = Fingerprint(f"{space} {ANCHORS}:{digest}", numerics)
        identity = getattr(reranker, "identity", "")
        self.identity = identity and f"{identity} {digest}"

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """The vector of a query before any document is scored, for each input; float32 `[n, dimension]`."""
        vectors = np.zeros((len(inputs), self.dimension), np.float32)
        vectors[:, -1] = 1
        return vectors

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """The centred scores of each document, and their mean; float32 `[n, dimension]`.

        Raises:
            ContractError: the reranker returns a wrong number of scores.
        """
        step = max(1, _PAIRS // len(self.anchors))
        parts = [self._scores(inputs[start : start + step]) for start in range(0, len(inputs), step)]
        scores = np.concatenate([np.zeros((0, len(self.anchors))), *parts])
        means = scores.mean(axis=1, keepdims=True)
        return np.hstack([scores - means, means]).astype(np.float32)

    def _scores(self, documents: Sequence[str]) -> Any:
        """Scores float64 `[n, anchors]`."""
        scores = self.reranker.predict([(anchor, document) for document in documents for anchor in self.anchors])
        if np.shape(scores) != (expected := (len(documents) * len(self.anchors),)):
            what, where = "wrong number of scores", type(self.reranker).__name__
            raise ContractError(what, where=where, got=str(np.shape(scores)), expected=str(expected))
        return np.asarray(scores, np.float64).reshape(len(documents), len(self.anchors))
