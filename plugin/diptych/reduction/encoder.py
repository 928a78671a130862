"""`ReducedEncoder` wraps a multi-vector encoder and stores fewer vectors for each document."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence

from diptych.errors import MissingExtra
from diptych.protocols import Fingerprint, MultiVectorEncoder
from diptych.reduction.options import ReduceOptions
from diptych.reduction.ward import EDITION, reduced
from diptych.types import Floats

_OPTIONAL = ("max_tokens", "token_spans", "sample", "look_at", "unread_share", "normalized")


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
