"""`Conditions`: the inputs that a check uses, and the differences it tolerates. Also how checks compare vectors."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError, brief
from diptych.media import Content, Sound
from diptych.media.values import media_canaries
from diptych.protocols import Kind
from diptych.types import SparseVector

Check: TypeAlias = "Callable[[Any, Conditions], str | None]"
"""Raises ConformanceFailure, or returns why it does not apply to this adapter."""
CHECKS: dict[Kind, tuple[Check, ...]] = {}
MEDIA: list[Check] = []  # that hold for encoders of media, too

Side: TypeAlias = Literal["query", "document"]
Triple: TypeAlias = tuple[str, str, str]  # query, a document that answers it, one that does not
Known: TypeAlias = tuple[Side, str, tuple[float, ...]]  # side, text, the first numbers of its vector

TEXTS: tuple[str, ...] = (
    "convert audio files",
    "a",
    "How do I mount an encrypted disk at boot?",
    "Package managers resolve dependencies, fetch the files, verify the signatures, unpack the files. " * 6,
    "Straße, naïve café; жаркое лето, 東京の天気",
    "games",
)
TRIPLES: tuple[Triple, ...] = (
    ("convert audio files", "Convert audio files from one format to another.", "Watch the weather in your city."),
    ("mount an encrypted disk", "How to mount an encrypted disk.", "A chess game with a strong computer player."),
)
ODD_TEXTS: tuple[str, ...] = ("\n\t", "🎈" * 9, "x" * 5000, "0", "<b>&amp;</b> \x00 \u200b", "e\u0301 = é")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Inputs and tolerances. A tolerance is a share of the largest number of the vector, or of the scores.

    Args:
        kind: the contract.
        texts: inputs, all different, short and long.
        triples: `(query, document that answers it, document that does not)`.
        known: vectors known from elsewhere, such as the model card: `(side, text, first numbers)`.
        repeat_tolerance: between two calls with the same inputs.
        batch_tolerance: between an input alone and the same input in a batch.
        norm_tolerance: between a vector's length and 1, when it is declared normalised.
        known_tolerance: between a known number and the encoder's.
        normalized, asymmetric: what the adapter declares; None when it does not say.
        sibling: an encoder that differs from the tested one in its queries alone, such as in their prompt.
        modality: what the encoder reads: "text", or media, of which the kit has its own.
        takes_texts: whether queries of an encoder of media may also be texts.
    """

    kind: Kind
    texts: tuple[str, ...] = TEXTS
    triples: tuple[Triple, ...] = TRIPLES
    known: tuple[Known, ...] = ()
    repeat_tolerance: float = 1e-6
    batch_tolerance: float = 1e-4
    norm_tolerance: float = 1e-3
    known_tolerance: float = 1e-3
    normalized: bool | None = None
    asymmetric: bool | None = None
    sibling: Any = None
    modality: str = "text"
    takes_texts: bool = False

    @property
    def inputs(self) -> Sequence[Any]:
        """The texts, or plain and odd media, read-only: the smallest, very wide, one colour, silence."""
        if self.modality == "text":
            return self.texts
        items = [*media_canaries(self.modality), *_ODD[self.modality]]
        for content in items:
            array_of(content).flags.writeable = False
        return items

    def declared(self, adapter: Any, fact: Literal["normalized", "asymmetric"]) -> bool | None:
        """The fact as stated here, else from the adapter's optional attribute, else None."""
        stated = getattr(self, fact)
        value = stated if stated is not None else getattr(adapter, fact, None)
        return value if isinstance(value, bool) else None


class ConformanceFailure(DiptychError, AssertionError):
    """An adapter breaks its contract; `check` names the check, `got` and `expected` say how."""

    check = ""

    def __init__(self, what: str, got: object, expected: object, where: object = "") -> None:
        super().__init__(what, where=where, got=got, expected=expected)

    def named(self, check: str) -> ConformanceFailure:
        """This failure, with the check's name in front of its text."""
        self.check = check
        self.args = (f"{check}: {self._text()}",)
        return self


def conformance_check(*kinds: Kind, media: bool = False) -> Callable[[Check], Check]:
    """Make a check of these kinds: its failures carry its name, and any other exception becomes one with its cause."""

    def made(function: Check) -> Check:
        @functools.wraps(function)
        def run(adapter: Any, conditions: Conditions) -> str | None:
            try:
                return function(adapter, conditions)
            except ConformanceFailure as failure:
                failure.named(function.__name__)
                raise
            except Exception as error:
                got = f"{type(error).__name__}: {error}"
                raised = ConformanceFailure("the adapter raised", got, "an answer that can be checked")
                raise raised.named(function.__name__) from error

        for kind in kinds:
            CHECKS[kind] = (*CHECKS.get(kind, ()), run)
        if media:
            MEDIA.append(run)
        return run

    return made


SIDES: tuple[Side, Side] = ("query", "document")


def call(encoder: Any, side: Side, inputs: Sequence[Any]) -> Any:
    """The result of `encode_query` or `encode_document`.

    Raises:
        ConformanceFailure: it raised.
    """
    try:
        return getattr(encoder, f"encode_{side}")(list(inputs))
    except Exception as error:
        where = f"{len(inputs)} inputs, the first {brief(next(iter(inputs), ''), 40)}"
        got = f"{type(error).__name__}: {error}"
        raise ConformanceFailure(f"encode_{side} raised", got, "vectors", where) from error


def vectors(encoder: Any, side: Side, inputs: Sequence[Any]) -> list[Any]:
    """One vector per input: dense `[dimension]`, multi-vector `[tokens, dimension]`, or a SparseVector.

    Raises:
        ConformanceFailure: encoding raised, or gave another number of vectors.
    """
    raw = call(encoder, side, inputs)
    count = len(raw) if hasattr(raw, "__len__") else type(raw).__name__
    if count != len(inputs):
        raise ConformanceFailure(f"encode_{side} lost or added vectors", count, f"{len(inputs)}, one per input")
    return list(raw)


def numbers(vector: Any) -> NDArray[Any]:
    """The numbers of a vector of any kind, as an array."""
    return np.asarray(vector.values if isinstance(vector, SparseVector) else vector)


def gap(one: Any, other: Any) -> float:
    """The largest difference of two vectors as a share of the largest number; infinity when their shapes differ."""
    if isinstance(one, SparseVector) and isinstance(other, SparseVector):
        one, other = _aligned(one, other)
    one, other = numbers(one), numbers(other)
    if one.shape != other.shape:
        return float("inf")
    scale = max(float(np.abs(one).max(initial=0.0)), float(np.abs(other).max(initial=0.0)))
    return float(np.abs(one - other).max(initial=0.0)) / scale if scale else 0.0


def score(encoder: Any, conditions: Conditions, query: Any, document: Any) -> float:
    """How near query and document vector are by kind and declared similarity; higher is nearer."""
    if conditions.kind == "sparse":
        one, other = _aligned(query, document)
        return float(one @ other)
    if conditions.kind == "multivector":
        return float((_unit(query) @ _unit(document).T).max(axis=1).sum())
    if encoder.similarity == "euclidean":
        return -float(np.linalg.norm(query - document))
    if encoder.similarity == "cosine":
        query, document = _unit(query), _unit(document)
    return float(query @ document)


def _aligned(one: SparseVector, other: SparseVector) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both as dense arrays over the union of their terms; equal terms of one vector are summed."""
    terms = np.union1d(one.indices, other.indices)
    result = np.zeros((2, len(terms)))
    for row, vector in zip(result, (one, other), strict=True):
        np.add.at(row, np.searchsorted(terms, vector.indices), vector.values)
    return result[0], result[1]


def _unit(vector: NDArray[Any]) -> NDArray[Any]:
    length = np.linalg.norm(vector, axis=-1, keepdims=True)
    result: NDArray[Any] = vector / np.where(length, length, 1)
    return result


def within(what: str, gaps: Iterable[float], tolerance: float) -> None:
    """Raise ConformanceFailure where the largest of the differences is above the tolerance, or is not a number."""
    worst = float(np.max([*gaps, 0.0]))
    if not worst <= tolerance:
        raise ConformanceFailure(what, f"a difference of {worst:.3g}", f"at most {tolerance:g}")


def array_of(content: Content) -> NDArray[Any]:
    """The array of an item of media."""
    return content.samples if isinstance(content, Sound) else content


def _pictures(*shapes: tuple[int, ...]) -> list[Content]:
    return [np.full((*shape, 3), 40 * at, np.uint8) for at, shape in enumerate(shapes, start=1)]


_ODD: Mapping[str, Sequence[Content]] = {
    "image": _pictures((1, 1), (3, 97), (80, 2), (31, 31)),
    "sound": [Sound(np.zeros(4_000, np.float32), 8_000), Sound(np.ones(1, np.float32), 22_050)],
    "video": _pictures((1, 20, 30), (3, 9, 40)),
}
