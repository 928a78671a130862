"""Anchors: fixed queries that a reranker has scored against every document, so that a search can use its scores.

`AnchorEncoder` wraps a reranker: the rest of diptych sees an ordinary dense encoder, whose document vectors hold the
reranker's scores.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from diptych.errors import AdapterOptionsError, ContractError
from diptych.protocols import Fingerprint, Kind, Reranker, Similarity
from diptych.types import Floats

_PAIRS = 8192  # scored in one call
CHOOSE = "diptych.swap.anchors.choose_missing(collection.handle, config)"
ANCHORS = "anchors"  # the key beside a reranker's own options
FEWEST, MOST = 2, 8192  # anchors: one alone has no deviation from its mean; a vector holds a number for each
LONGEST = 1000  # characters of an anchor that is chosen
WORDS = 16  # of a document without a title that become an anchor


def reranker_space(reranker: Reranker, adapter: str, options: Mapping[str, Any]) -> str:
    """What decides a reranker's scores: the space of its fingerprint, or a digest of what the config says of it."""
    fingerprint = getattr(reranker, "fingerprint", None)
    if isinstance(fingerprint, Fingerprint):
        return fingerprint.space
    own = sorted((key, value) for key, value in options.items() if key != ANCHORS)
    return "declared:" + hashlib.sha256(repr((adapter, own)).encode()).hexdigest()[:16]


def reranker_of(space: str) -> str:
    """The `reranker_space` in the space of a fingerprint of anchors' scores."""
    return space.rpartition(f" {ANCHORS}:")[0]


def anchors_digest(anchors: Sequence[str]) -> str:
    """The end of the fingerprint of scores of these anchors."""
    return hashlib.sha256("\n".join(anchors).encode()).hexdigest()[:16]


class AnchorEncoder:
    """Encodes a document as the scores that a reranker gives it for each anchor.

    The vector has a number for each anchor, the score less the document's mean over all anchors, and the mean as the
    last one. The mean is most of what scores have in common; a fit that had to explain it would explain little else.

    A query's vector is found by search round by round (`diptych.search.rerank`). Before any document is
    scored it is zero for each anchor and 1 for the mean, which is what `encode_query` returns for all queries.

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


class AnchorOptions(BaseModel):
    """Anchors of a slot: queries that its reranker scores against every document."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    texts: Annotated[str, Field(min_length=1)] = Field(
        description="Text file with one anchor per line, such as past queries."
    )


def anchored(kind: Kind, options: Mapping[str, Any]) -> bool:
    """Whether an adapter of this kind, with these options, stores a reranker's scores of anchors."""
    return kind == "reranker" and has_anchors(options)


def has_anchors(options: Mapping[str, Any]) -> bool:
    """Whether the options of a slot or generation name anchors."""
    return options.get(ANCHORS) is not None


def read_anchors(path: str | Path, *, where: str) -> tuple[str, ...]:
    """The anchors of a text file, a line each; empty lines are skipped.

    Raises:
        AdapterOptionsError: the file cannot be read, or holds too few anchors, too many, or one twice.
    """
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except FileNotFoundError as error:
        do = (
            f"write queries into it, one per line; to choose titles of the collection: {CHOOSE}. "
            "A new collection is populated without the slot first"
        )
        raise AdapterOptionsError("there is no file of anchors", where=where, got=str(path), do=do) from error
    except (OSError, UnicodeDecodeError) as error:
        what, expected = "the anchors cannot be read", "a UTF-8 text file with one anchor per line"
        raise AdapterOptionsError(what, where=where, got=f"{path}: {error}", expected=expected) from error
    places: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text in places:
            got = f"{text[:60]!r} in lines {places[text]} and {number}"
            raise AdapterOptionsError("an anchor appears twice", where=f"{where}, {path}", got=got, do="leave one out")
        if text:
            places[text] = number
    if not FEWEST <= len(places) <= MOST:
        got, expected = f"{len(places):,} in {path}", f"{FEWEST} to {MOST:,}"
        what = "the number of anchors is not usable"
        do = f"write queries into it, one per line, or delete it and choose titles: {CHOOSE}"
        raise AdapterOptionsError(what, where=where, got=got, expected=expected, do=do)
    return tuple(places)


def choose_anchors(documents: Iterable[tuple[str, str]], count: int, *, seed: int) -> list[str]:
    """`count` anchors from titles and texts: titles, or the first words of documents that have none.

    The choice depends on the texts and the seed alone, not on the order of the documents: those with the lowest hashes.

    Args:
        documents: title and text of each; equal anchors count once.
        count: how many; fewer where there are fewer different ones.
        seed: another seed chooses others.
    """
    lowest: list[tuple[int, str]] = []  # a heap of the negative hashes: the highest comes out first
    known: set[str] = set()
    for title, text in documents:
        anchor = " ".join(title.split() or text.split()[:WORDS])[:LONGEST].strip()
        if not anchor or anchor in known:
            continue
        item = (-int.from_bytes(hashlib.blake2b(f"{seed} {anchor}".encode(), digest_size=8).digest()), anchor)
        if len(lowest) < count:
            heapq.heappush(lowest, item)
        elif item > lowest[0]:
            known.discard(heapq.heapreplace(lowest, item)[1])
        else:
            continue
        known.add(anchor)
    return sorted(anchor for _, anchor in lowest)


def write_anchors(path: Path, anchors: Sequence[str]) -> None:
    """Write the file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text("".join(f"{anchor}\n" for anchor in anchors), "utf-8")
    os.replace(temporary, path)
