"""The contracts: what an object must do to serve as an encoder or a reranker.

Each method takes a batch and returns results in the order of the inputs. An input is a text, even if it
looks like the name of a file. In a slot `of: image`, or of other media, documents are decoded media
(`diptych.media.Content`), and queries are media or texts. Sorting by length, batching by tokens, threads and devices
are left to the adapter, since it alone knows its tokenizer; diptych passes it large chunks.

| contract | facts | methods |
|---|---|---|
| `DenseEncoder` | `dimension`, `similarity` | `encode_query`, `encode_document` -> float32 `[n, dimension]` |
| `SparseEncoder` | `dimension`, `uses_idf` | the same two -> `list[SparseVector]`; `decode` |
| `MultiVectorEncoder` | `dimension`, `similarity` | the same two -> list of float32 `[tokens_i, dimension]` |
| `TextIndex` | none | `index_params`, `query`: Qdrant's own full-text index does the rest |
| `Reranker` | `max_length`, `independent` | `predict(pairs)` -> float32 `[n]` |

Optional, detected by attribute: `fingerprint` (without it diptych derives one from the declared facts), `Calibrated`,
`Sampling`, `Identified`, `VocabularyCheck`, `TextAdvice`, `TokenLimit`, `TokenVectors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from diptych.types import Floats, SparseVector

Kind: TypeAlias = Literal["dense", "sparse", "multivector", "text_index", "reranker"]
Similarity: TypeAlias = Literal["cosine", "dot", "euclidean"]
Pair: TypeAlias = tuple[str, str]  # query, document
Statistics: TypeAlias = Mapping[str, float]  # sums over documents, so two of them can be added key by key

# In a student's folder: `{"documents": ...}`, the fingerprints of the document encoders that it makes queries for.
TEACHER_FILE = "teacher.json"


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identifies an encoder's vector space.

    `space` hashes what decides which vectors are comparable: weights, tokenizer, pooling, normalisation, prompts,
    truncation. `numerics` names what only adds noise: backend and precision. `documents` (empty if unknown) hashes the
    same as `space` without what affects queries only: equal values mean equal document vectors.
    """

    space: str
    numerics: str = ""
    documents: str = ""

    def __str__(self) -> str:
        return f"{self.space} ({self.numerics})" if self.numerics else self.space


@runtime_checkable
class DenseEncoder(Protocol):
    """One vector for each input."""

    dimension: int
    similarity: Similarity

    def encode_query(self, inputs: Sequence[str]) -> Floats:
        """Vectors of the queries `inputs`, float32 `[n, dimension]`."""
        ...

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        """Vectors of the documents `inputs`, float32 `[n, dimension]`."""
        ...


@runtime_checkable
class SparseEncoder(Protocol):
    """Weights over a lexicon for each input. `uses_idf`: the store multiplies by inverse document frequency."""

    dimension: int
    uses_idf: bool

    def encode_query(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Term weights of the queries `inputs`, a vector each."""
        ...

    def encode_document(self, inputs: Sequence[str]) -> list[SparseVector]:
        """Term weights of the documents `inputs`, a vector each."""
        ...

    def decode(self, vector: SparseVector, top_k: int | None = None) -> list[tuple[str, float]]:
        """The terms of `vector` as words with their weights, heaviest first; all of them when `top_k` is None."""
        ...


@runtime_checkable
class MultiVectorEncoder(Protocol):
    """A vector for each token of each input, compared by MaxSim."""

    dimension: int
    similarity: Similarity

    def encode_query(self, inputs: Sequence[str]) -> list[Floats]:
        """Token vectors of the queries `inputs`, each float32 `[tokens_i, dimension]`."""
        ...

    def encode_document(self, inputs: Sequence[str]) -> list[Floats]:
        """Token vectors of the documents `inputs`, each float32 `[tokens_i, dimension]`."""
        ...


@runtime_checkable
class TextIndex(Protocol):
    """A lexical slot without vectors: Qdrant indexes the payload text itself and scores it with BM25."""

    def index_params(self) -> Any:
        """The `qdrant_client.models.TextIndexParams` of the payload index."""
        ...

    def query(self, text: str) -> Any:
        """The `qdrant_client.models.TextQuery` for `text`."""
        ...


@runtime_checkable
class Reranker(Protocol):
    """Scores of query-document pairs, higher is better.

    `independent`: a pair's score does not depend on the other pairs of the call, so calls may split or combine pairs
    freely. `max_length`: tokens of a pair that are read, None when unlimited or unknown.
    """

    max_length: int | None
    independent: bool

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`."""
        ...


@runtime_checkable
class Calibrated(Protocol):
    """A sparse encoder whose document weights need corpus statistics, such as BM25's average length.

    diptych sums `measure` over the corpus once, passes the sum to `calibrate` before anything is encoded, and stores
    it in the collection. Where nobody measures the corpus, as in a plain client, an encoder that has an attribute
    `assumed`, such a sum, is calibrated with it; None there means that it is not needed.
    """

    def measure(self, inputs: Sequence[str]) -> Statistics:
        """Sums over `inputs` by name. Sums of two batches are added key by key.

        The key `documents` is required: the number of inputs.
        """
        ...

    def calibrate(self, statistics: Statistics) -> None:
        """Use the corpus sums `statistics` from now on."""
        ...


@runtime_checkable
class Sampling(Protocol):
    """An encoder that reads texts before it serves, such as an int8 encoder, which chooses number ranges from them.

    `sample`: how many texts it wants, 0 for none. They are stored documents; in a new collection the source's first
    ones, read before anything is encoded.
    """

    sample: int

    def look_at(self, texts: Sequence[str]) -> None:
        """Read these texts: documents as the encoder will get them."""
        ...


@runtime_checkable
class Identified(Protocol):
    """An encoder that can tell, across processes, whether it is the same one that was checked before.

    `identity`: a digest of everything that decides its vectors: model files down to their inodes, options, library
    versions, and the machine. While it stays the same, opening a collection does not encode its canaries again: fixed
    texts whose stored vectors an encoder must reproduce. "" when it is unknown; then the canaries are encoded.
    """

    identity: str


@runtime_checkable
class VocabularyCheck(Protocol):
    """An encoder that can tell whether its vocabulary fits given texts, such as texts in another language."""

    def unread_share(self, inputs: Sequence[str]) -> float:
        """The share of the letters that its tokenizer leaves unknown or reads in small pieces, 0 to 1.

        A lexical adapter counts the letters of scripts without spaces instead, which it does not cut into words.
        """
        ...


@runtime_checkable
class TextAdvice(Protocol):
    """An encoder that sees in texts which of its options would suit them."""

    def text_advice(self, inputs: Sequence[str]) -> str:
        """What the texts are and the option as a line of config, as the end of a sentence; "" for nothing."""
        ...


@runtime_checkable
class TokenLimit(Protocol):
    """An encoder that reads only the first tokens of an input.

    `max_tokens`: how many tokens of a document it reads, without special tokens and its prompt; None when it reads all.
    """

    max_tokens: int | None

    def token_spans(self, inputs: Sequence[str]) -> list[NDArray[np.int32]]:
        """The character span of each token of the document inputs, untruncated: int32 `[tokens_i, 2]`, begin and end.

        Spans count characters as Python does, in ascending order, without special tokens. Byte-level tokens may share a
        character. Characters that become no token, such as spaces, lie between two spans.
        """
        ...


@runtime_checkable
class TokenVectors(Protocol):
    """A dense encoder whose vectors are means of token vectors, which late pooling needs. It is a `TokenLimit`, too.

    `mean_pooled`: whether a vector is exactly the mean of its token vectors, normalised or not.
    `normalized`: whether vectors have length 1.
    """

    mean_pooled: bool
    normalized: bool

    def token_vectors(self, inputs: Sequence[str]) -> list[Floats]:
        """The token vectors of document inputs, float32 `[tokens_i, dimension]`: one for each of `token_spans`.

        Special tokens and the prompt are left out. Of a text that is too long, only the beginning has vectors.
        """
        ...


Encoder: TypeAlias = DenseEncoder | SparseEncoder | MultiVectorEncoder
Adapter: TypeAlias = Encoder | TextIndex | Reranker
CONTRACTS: Mapping[Kind, type[Any]] = {
    "dense": DenseEncoder,
    "sparse": SparseEncoder,
    "multivector": MultiVectorEncoder,
    "text_index": TextIndex,
    "reranker": Reranker,
}
