"""sentence-transformers' own path, with its defaults: what the frameworks run beneath."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PACKAGES = ("sentence-transformers", "transformers", "torch", "numpy")


class Peer:
    """Dense vectors, sparse vectors or scores of pairs of one model."""

    def __init__(self, model: str, *, kind: str, threads: int, options: Mapping[str, Any]) -> None:
        import sentence_transformers
        import torch

        torch.set_num_threads(threads)
        classes = {"dense": "SentenceTransformer", "sparse": "SparseEncoder", "cross-encoder": "CrossEncoder"}
        self._model: Any = getattr(sentence_transformers, classes[kind])(model, device="cpu", **options)
        self._kind = kind

    def encode(self, inputs: Sequence[Any]) -> Any:
        if self._kind == "cross-encoder":
            return self._model.predict([tuple(pair) for pair in inputs], show_progress_bar=False)
        if self._kind == "sparse":
            return self._model.encode_document(list(inputs), show_progress_bar=False)
        return self._model.encode(list(inputs), show_progress_bar=False)

    def array(self, found: Any) -> Any:
        """Sparse vectors as rows of a dense matrix, to compare them."""
        return found.to_dense() if self._kind == "sparse" else found
