"""scikit-learn: any dense or sparse encoder as a step of a `Pipeline`. Needs `pip install 'diptych[sklearn]'`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import numpy as np

from diptych import SparseVector
from diptych.encoders import NamedEncoder
from diptych.errors import AdapterOptionsError, DocumentError, MissingExtra
from diptych_adapters.frameworks import Source, encoders_of

try:
    from scipy.sparse import csr_matrix
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.validation import check_is_fitted
except ModuleNotFoundError as error:
    raise MissingExtra("this needs scikit-learn", got=str(error), do="pip install 'diptych[sklearn]'") from error


class EncoderVectorizer(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn carries no types
    """A scikit-learn transformer from texts to an encoder's vectors.

    A dense encoder gives float32 `[n, dimension]`; a sparse one a csr matrix whose columns are the terms of the fitted
    texts, as with `CountVectorizer`. `fit` trains nothing: encoders are trained already.

    Args:
        encoder: an adapter, or a slot of `source`.
        options: of the adapter; a slot has its own.
        side: whether the texts are encoded as documents or as queries.
        source: a config, its path, an open collection, or `Encoders`. Clones share the last two, with the models that
            are loaded, but these cannot be sent to other processes (`n_jobs`).

    Attributes:
        n_features_out_: columns of the matrix.
        terms_: ids of the terms that are the columns, ascending; None of a dense encoder.
    """

    def __init__(
        self,
        encoder: str,
        *,
        options: Mapping[str, Any] | None = None,
        source: Source = None,
        side: Literal["document", "query"] = "document",
    ) -> None:
        self.encoder = encoder
        self.options = options
        self.source = source
        self.side = side

    def fit(self, X: Iterable[str], y: object = None) -> Self:  # noqa: N803
        """Set the number of columns; for a sparse encoder, from the terms of the texts.

        Raises:
            DocumentError: not an iterable of texts.
            RegistryError: the encoder is unknown, cannot be made, or makes several vectors a text.
        """
        texts = _texts(X)
        if self._encoder().kind == "sparse":
            self._learn_terms(self._vectors(texts))
        else:
            self.terms_: Any = None
            self.n_features_out_ = self._encoder().dimension
        return self

    def transform(self, X: Iterable[str]) -> Any:  # noqa: N803
        """The texts' vectors, one per row.

        Raises:
            NotFittedError: `fit` comes first.
            DocumentError, ContractError, FingerprintMismatch: see diptych.errors.
        """
        check_is_fitted(self, "n_features_out_")
        return self._matrix(self._vectors(_texts(X)))

    def fit_transform(self, X: Iterable[str], y: object = None) -> Any:  # noqa: N803
        """`fit` and `transform` of the same texts, which are encoded once."""
        texts = _texts(X)
        vectors = self._vectors(texts)
        if self._encoder().kind == "sparse":
            self._learn_terms(vectors)
        else:
            self.fit(texts)
        return self._matrix(vectors)

    def get_feature_names_out(self, input_features: object = None) -> Any:
        """Names of the columns: the encoder's with a number, of a sparse one with the term's id."""
        check_is_fitted(self, "n_features_out_")
        numbers = range(self.n_features_out_) if self.terms_ is None else self.terms_.tolist()
        return np.asarray([f"{self.encoder}_{number}" for number in numbers], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.one_d_array, tags.input_tags.two_d_array, tags.input_tags.string = True, False, True
        tags.no_validation = True
        return tags

    def __sklearn_clone__(self) -> Self:
        """A clone that is not fitted; scikit-learn's own would copy `source`, models included."""
        return type(self)(**self.get_params(deep=False))

    def __getstate__(self) -> Any:
        """The state without loaded encoders: a copy in another process loads them again."""
        return {name: value for name, value in super().__getstate__().items() if name != "_opened"}

    def _encoder(self) -> NamedEncoder:
        source, opened = getattr(self, "_opened", (None, None))
        if opened is None or source is not self.source:
            opened = encoders_of(self.source)
            self._opened = self.source, opened
        encoder = opened.with_options(self.encoder, self.options or {})
        if encoder.kind == "multivector":
            got = f"{self.encoder!r}, which makes a vector for each token"
            expected = "a dense or sparse encoder"
            raise AdapterOptionsError(
                "the encoder makes several vectors per text", where="EncoderVectorizer", got=got, expected=expected
            )
        return encoder

    def _vectors(self, texts: Sequence[str]) -> list[Any]:
        encoder = self._encoder()
        return list(encoder.encode_query(texts) if self.side == "query" else encoder.encode_document(texts))

    def _learn_terms(self, vectors: Sequence[SparseVector]) -> None:
        self.terms_ = np.unique(np.concatenate([np.empty(0, np.uint32), *(vector.indices for vector in vectors)]))
        self.n_features_out_ = len(self.terms_)

    def _matrix(self, vectors: Sequence[Any]) -> Any:
        if self.terms_ is None:
            return np.stack(vectors) if vectors else np.empty((0, self.n_features_out_), np.float32)
        return _csr(vectors, self.terms_)


def _csr(vectors: Sequence[SparseVector], terms: Any) -> Any:
    """The vectors as rows over the columns `terms`; other terms are left out."""
    ids = np.concatenate([np.empty(0, np.uint32), *(vector.indices for vector in vectors)])
    values = np.concatenate([np.empty(0, np.float32), *(vector.values for vector in vectors)])
    rows = np.repeat(np.arange(len(vectors)), [len(vector) for vector in vectors])
    columns = np.searchsorted(terms, ids)
    is_column = np.isin(ids, terms)
    shape = (len(vectors), len(terms))
    return csr_matrix((values[is_column], (rows[is_column], columns[is_column])), shape=shape)


def _texts(column: Any) -> list[str]:
    if isinstance(column, str) or getattr(column, "ndim", 1) != 1 or not isinstance(column, Iterable):
        raise DocumentError(
            "not a list of texts",
            where="EncoderVectorizer",
            got=f"{type(column).__name__}{list(getattr(column, 'shape', ())) or ''}",
            expected="a list, an array or a column of texts, one for each row",
            do="in a ColumnTransformer name the column as a text, not as a list: 'text'",
        )
    texts = list(column)
    for position, text in enumerate(texts):
        if not isinstance(text, str):
            got = type(text).__name__
            raise DocumentError("not a text", where=f"EncoderVectorizer, row {position}", got=got, expected="str")
    return texts
