"""Checks of every encoder: shape, type, order, and that a vector depends on its input alone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from diptych.errors import brief
from diptych.media.values import media_canaries
from diptych.protocols import CONTRACTS, Fingerprint, Kind, Similarity, TokenLimit
from diptych.testing.checks.conditions import (
    ODD_TEXTS,
    SIDES,
    TEXTS,
    Conditions,
    ConformanceFailure,
    Side,
    Triple,
    array_of,
    call,
    conformance_check,
    gap,
    numbers,
    score,
    vectors,
    within,
)
from diptych.types import SparseVector

ENCODERS: tuple[Kind, ...] = ("dense", "multivector", "sparse")
LONGEST = 8192  # tokens of the longest limit that is tried: encoding more takes minutes on a CPU


@conformance_check(*ENCODERS, media=True)
def check_declared_facts(encoder: Any, conditions: Conditions) -> None:
    """All members of the contract exist and its facts have valid values."""
    contract = CONTRACTS[conditions.kind]
    if not isinstance(encoder, contract):
        raise ConformanceFailure("members are missing", type(encoder).__name__, f"diptych.{contract.__name__}")
    facts: dict[str, tuple[Callable[[Any], bool], str]] = {
        "dimension": (lambda value: isinstance(value, int) and value >= 1, "an integer >= 1"),
        "similarity": (lambda value: value in get_args(Similarity), " | ".join(get_args(Similarity))),
        "uses_idf": (lambda value: isinstance(value, bool), "True or False"),
        "normalized": (lambda value: isinstance(value, bool), "True or False"),
        "asymmetric": (lambda value: isinstance(value, bool), "True or False"),
        "fingerprint": (lambda value: isinstance(value, Fingerprint) and bool(value.space), "a diptych.Fingerprint"),
    }
    for name, (usable, expected) in facts.items():
        if hasattr(encoder, name) and not usable(getattr(encoder, name)):
            raise ConformanceFailure(f"{name} is not usable", repr(getattr(encoder, name)), expected)


@conformance_check(*ENCODERS, media=True)
def check_dimension(encoder: Any, conditions: Conditions) -> None:
    """Vectors have the declared dimension: dense `[n, dimension]`, each multi-vector `[tokens >= 1, dimension]`."""
    for side in SIDES:
        for vector in vectors(encoder, side, conditions.inputs):
            if error := _dimension_error(vector, encoder.dimension, conditions):
                raise ConformanceFailure(f"encode_{side}: wrong dimension", error, encoder.dimension)


@conformance_check(*ENCODERS, media=True)
def check_float32(encoder: Any, conditions: Conditions) -> None:
    """Numbers come as numpy float32: one array for a dense batch, one for each multi-vector and sparse weights."""
    for side in SIDES:
        raw = call(encoder, side, conditions.inputs)
        for part in [raw] if conditions.kind == "dense" else raw:
            values = part.values if isinstance(part, SparseVector) else part
            if not isinstance(values, np.ndarray) or values.dtype != np.float32:
                got = getattr(values, "dtype", type(values).__name__)
                raise ConformanceFailure(f"encode_{side}: wrong type of numbers", got, "numpy float32")


@conformance_check(*ENCODERS, media=True)
def check_finite(encoder: Any, conditions: Conditions) -> None:
    """No NaN and no infinity."""
    for side in SIDES:
        for given, vector in zip(conditions.inputs, vectors(encoder, side, conditions.inputs), strict=True):
            if not np.isfinite(numbers(vector)).all():
                raise ConformanceFailure(
                    f"encode_{side}: not finite", f"NaN or infinity for {brief(given, 40)}", "numbers"
                )


@conformance_check(*ENCODERS)
def check_order(encoder: Any, conditions: Conditions) -> None:
    """The i-th vector is the i-th input's."""
    for side in SIDES:
        batch = vectors(encoder, side, conditions.texts)
        alone = [vectors(encoder, side, [text])[0] for text in conditions.texts]
        order = []  # of each vector the input whose it is; its own where it is also another's, or nobody's
        for at, vector in enumerate(batch):
            same = [place for place, other in enumerate(alone) if gap(vector, other) <= conditions.batch_tolerance]
            order.append(at if at in same or not same else same[0])
        if order != list(range(len(batch))):
            raise ConformanceFailure(f"encode_{side}: vectors in another order", order, list(range(len(batch))))


@conformance_check(*ENCODERS, media=True)
def check_deterministic(encoder: Any, conditions: Conditions) -> None:
    """Two calls with the same inputs give the same vectors, within `repeat_tolerance`."""
    for side in SIDES:
        first, second = (vectors(encoder, side, conditions.inputs) for _ in range(2))
        within(f"encode_{side}: the second call differs", map(gap, first, second), conditions.repeat_tolerance)


@conformance_check(*ENCODERS, media=True)
def check_batch_independent(encoder: Any, conditions: Conditions) -> None:
    """An input's vector does not depend on the other inputs of the call, within `batch_tolerance`."""
    for side in SIDES:
        batch = vectors(encoder, side, conditions.inputs)
        alone = [vectors(encoder, side, [given])[0] for given in conditions.inputs]
        what = f"encode_{side}: an input alone has another vector than in a batch"
        within(what, map(gap, batch, alone), conditions.batch_tolerance)


@conformance_check(*ENCODERS)
def check_inputs_kept(encoder: Any, conditions: Conditions) -> None:
    """The caller's list of inputs is not changed."""
    for side in SIDES:
        inputs = list(conditions.texts)
        getattr(encoder, f"encode_{side}")(inputs)
        if inputs != list(conditions.texts):
            raise ConformanceFailure(f"encode_{side}: changed its inputs", inputs, list(conditions.texts))


@conformance_check("dense", "multivector")
def check_normalized(encoder: Any, conditions: Conditions) -> str | None:
    """An encoder that declares `normalized` makes vectors (or token vectors) of length 1, within `norm_tolerance`."""
    if not conditions.declared(encoder, "normalized"):
        return "it does not declare `normalized`"
    for side in SIDES:
        for vector in vectors(encoder, side, conditions.texts):
            gaps = np.abs(np.linalg.norm(numbers(vector), axis=-1) - 1)
            within(f"encode_{side}: length is not 1", gaps.ravel(), conditions.norm_tolerance)
    return None


@conformance_check(*ENCODERS, media=True)
def check_empty_batch(encoder: Any, conditions: Conditions) -> None:
    """No inputs give no vectors: a dense `[0, dimension]` float32, else an empty list."""
    for side in SIDES:
        raw = call(encoder, side, [])
        shape = np.shape(raw)
        if conditions.kind == "dense" and (shape != (0, encoder.dimension) or raw.dtype != np.float32):
            got = f"{getattr(raw, 'dtype', type(raw).__name__)} {list(shape)}"
            raise ConformanceFailure(f"encode_{side}([])", got, f"float32 [0, {encoder.dimension}]")
        if len(raw):
            raise ConformanceFailure(f"encode_{side}([])", f"{len(raw)} vectors", "none")


@conformance_check(*ENCODERS)
def check_odd_texts(encoder: Any, conditions: Conditions) -> None:
    """Empty, blank and very long texts, control characters, markup and emoji get a vector of finite numbers."""
    texts = ("", "  ", conditions.texts[0], *ODD_TEXTS)
    for side in SIDES:
        for text, vector in zip(texts, vectors(encoder, side, texts), strict=True):
            got = _dimension_error(vector, encoder.dimension, conditions)
            if got or not np.isfinite(numbers(vector)).all():
                got = got or "NaN or infinity"
                raise ConformanceFailure(f"encode_{side}: no usable vector for {text[:40]!r}", got, "finite numbers")


def _dimension_error(vector: Any, dimension: int, conditions: Conditions) -> str:
    """What is wrong with the vector's shape; "" for a sparse vector, whose indices have their own check."""
    shape = np.shape(numbers(vector))
    expected = {"dense": (dimension,), "multivector": (max(len(shape) and shape[0], 1), dimension)}
    return f"shape {list(shape)}" if shape != expected.get(conditions.kind, shape) else ""


@conformance_check(*ENCODERS)
def check_sides_as_declared(encoder: Any, conditions: Conditions) -> str | None:
    """An encoder that declares `asymmetric` encodes a text differently as query and as document; else the same."""
    asymmetric = conditions.declared(encoder, "asymmetric")
    if asymmetric is None:
        return "it does not say whether it is `asymmetric`"
    texts = [text for triple in conditions.triples for text in triple] or list(conditions.texts)
    worst = max(map(gap, *(vectors(encoder, side, texts) for side in SIDES)))
    if (worst > conditions.batch_tolerance) != asymmetric:
        raise ConformanceFailure(
            "encode_query and encode_document are not as the encoder declares",
            f"vectors of one text that differ by {worst:.3g}",
            f"asymmetric = {asymmetric}: {'different' if asymmetric else 'the same'} vectors",
        )
    return None


@conformance_check(*ENCODERS)
def check_queries_find_documents(encoder: Any, conditions: Conditions) -> str | None:
    """In each triple the query is nearer to its document. The failure says if swapping the sides would help."""
    for triple in conditions.triples:
        if _margin(encoder, conditions, triple) <= 0:
            swapped = _margin(encoder, conditions, triple, swapped=True) > 0
            hint = "right with the two sides swapped: are encode_query and encode_document mixed up?" if swapped else ""
            what = f"{triple[0]!r} is nearer to another document than to its own"
            raise ConformanceFailure(what, f"nearer to {triple[2]!r}", f"nearer to {triple[1]!r}", hint)
    if conditions.declared(encoder, "asymmetric") and not can_tell_sides(encoder, conditions):
        return "passed, but swapped sides would pass too: add a triple or `known` vectors that tell them apart"
    return None


@conformance_check(*ENCODERS)
def check_known_vectors(encoder: Any, conditions: Conditions) -> str | None:
    """Known vectors are reproduced: their first numbers, as many as given, within `known_tolerance`."""
    for side, text, expected in conditions.known:
        computed = numbers(vectors(encoder, side, [text])[0]).ravel()[: len(expected)]
        worst = max(abs(float(one) - other) for one, other in zip(computed, expected, strict=True))
        if not worst <= conditions.known_tolerance:
            what = f"encode_{side}({text!r}) is not the known vector"
            raise ConformanceFailure(what, computed.tolist(), list(expected))
    return None if conditions.known else "no `known` vectors"


@conformance_check(*ENCODERS)
def check_sibling_documents(encoder: Any, conditions: Conditions) -> str | None:
    """A sibling that differs only for queries declares the same `documents` and makes the same document vectors."""
    sibling = conditions.sibling
    if sibling is None:
        return "no `sibling` that differs in queries alone"
    one, other = encoder.fingerprint, sibling.fingerprint
    if not one.documents or one.documents != other.documents or one.space == other.space:
        raise ConformanceFailure(
            "the fingerprints do not say that queries alone differ",
            f"spaces {one.space} and {other.space}, documents {one.documents!r} and {other.documents!r}",
            "two spaces, and the same documents",
        )
    both = (vectors(each, "document", conditions.texts) for each in (encoder, sibling))
    what = "the fingerprints declare the same documents, and their vectors differ"
    within(what, map(gap, *both), conditions.batch_tolerance)
    return None


def can_tell_sides(encoder: Any, conditions: Conditions) -> bool:
    """Whether swapped sides would be noticed: a triple would be ranked wrong, or both sides have a known vector."""
    sides = {side for side, _, _ in conditions.known}
    return len(sides) == 2 or any(_margin(encoder, conditions, t, swapped=True) <= 0 for t in conditions.triples)


def _margin(encoder: Any, conditions: Conditions, triple: Triple, *, swapped: bool = False) -> float:
    """How much nearer the query is to its document than to the other."""
    asking: Side = "document" if swapped else "query"
    answering: Side = "query" if swapped else "document"
    (query,) = vectors(encoder, asking, triple[:1])
    relevant, irrelevant = vectors(encoder, answering, triple[1:])
    return score(encoder, conditions, query, relevant) - score(encoder, conditions, query, irrelevant)


@conformance_check(*ENCODERS)
def check_token_limit(encoder: Any, conditions: Conditions) -> str | None:
    """An encoder with TokenLimit says where tokens are, and reads `max_tokens` of a document: no more and no fewer."""
    if not isinstance(encoder, TokenLimit):
        return "it does not say how much it reads"
    texts = [*conditions.texts, *ODD_TEXTS, ""]
    spans = encoder.token_spans(texts)
    if len(spans) != len(texts):
        raise ConformanceFailure("token_spans lost or added texts", len(spans), len(texts))
    for text, places in zip(texts, spans, strict=True):
        _check_spans(text, places)
        if not np.array_equal(places, encoder.token_spans([text])[0]):
            got = "other spans alone than in a batch"
            raise ConformanceFailure("token_spans depends on the batch", got, "equal", repr(text[:40]))
    if encoder.max_tokens and encoder.max_tokens <= LONGEST:
        _check_limit(encoder, conditions, encoder.max_tokens)
    return None


def _check_spans(text: str, spans: NDArray[np.int32]) -> None:
    expected = f"int32 [tokens, 2] that ascends within the {len(text)} characters"
    if not isinstance(spans, np.ndarray) or spans.dtype != np.int32 or spans.ndim != 2 or spans.shape[1] != 2:
        got = f"{spans.dtype} {list(spans.shape)}" if isinstance(spans, np.ndarray) else type(spans).__name__
        raise ConformanceFailure("token_spans gives no spans", got, expected, repr(text[:40]))
    begins, ends = spans.T.astype(np.int64)
    inside = (begins >= 0).all() and (begins <= ends).all() and (ends <= len(text)).all()
    if not inside or (np.diff(begins) < 0).any():
        raise ConformanceFailure("token_spans gives impossible spans", spans[:8].tolist(), expected, repr(text[:40]))


def _check_limit(encoder: Any, conditions: Conditions, limit: int) -> None:
    """Compare a text that is too long with its read part, encoded alike, and with a word less, encoded otherwise."""
    texts = _long_text(encoder, conditions, limit)
    whole, part, shorter = (vectors(encoder, "document", [each])[0] for each in texts)
    beyond, noise = gap(whole, part), conditions.batch_tolerance
    if beyond > noise:
        what = f"more is read of a document than max_tokens = {limit} says"
        raise ConformanceFailure(what, f"without the rest the vector differs by {beyond:.2g}", f"at most {noise:g}")
    if gap(whole, shorter) <= beyond:
        what = f"less is read of a document than max_tokens = {limit} says"
        raise ConformanceFailure(what, "the same vector without the last word before that", "another vector")


def _long_text(encoder: Any, conditions: Conditions, limit: int) -> tuple[str, str, str]:
    """A text with more tokens than the limit, cut after the last token that is read, and a word before.

    The cut falls behind a whole word: the tokens before it are then those of the whole text.
    """
    words = sorted({word for text in conditions.texts for word in text.split() if word.isalpha()})
    for start in range(len(words)):
        turned = words[start:] + words[:start]
        text = " ".join(turned * (2 + limit // len(words)))
        spans = encoder.token_spans([text])[0]
        end = int(spans[limit - 1, 1]) if len(spans) > limit else 0
        if text[end : end + 1] == " ":
            return text, text[:end], text[:end].rpartition(" ")[0]
    what = "token_spans never ends a word where max_tokens ends"
    got = f"max_tokens = {limit}, texts of {len(words)} words in turn"
    raise ConformanceFailure(what, got, "the token after it begins a new word")


# Checks of encoders of media, which get what diptych gives them: decoded arrays, of odd sizes among others.


@conformance_check(media=True)
def check_media_differ(encoder: Any, conditions: Conditions) -> None:
    """Items that differ plainly get different vectors."""
    first = vectors(encoder, "document", media_canaries(conditions.modality))
    if len(first) > 1 and not gap(first[0], first[-1]) > conditions.repeat_tolerance:
        raise ConformanceFailure("all media have one vector", "no difference", "vectors of the content")


@conformance_check(media=True)
def check_media_kept(encoder: Any, conditions: Conditions) -> None:
    """The arrays are not changed: other slots read them too."""
    inputs = [copy.deepcopy(content) for content in conditions.inputs]
    for content in inputs:
        array_of(content).flags.writeable = True
    vectors(encoder, "document", inputs)
    for at, (content, before) in enumerate(zip(inputs, conditions.inputs, strict=True)):
        if not np.array_equal(array_of(content), array_of(before)):
            raise ConformanceFailure("encode_document changed its input", f"item {at}", "the same array")


@conformance_check(media=True)
def check_texts_beside_media(encoder: Any, conditions: Conditions) -> str | None:
    """Where queries may be texts, texts and media in one call get the vectors that they get alone."""
    if not conditions.takes_texts:
        return "it takes no texts"
    mixed: list[Any] = [item for pair in zip(TEXTS, conditions.inputs, strict=False) for item in pair]
    alone = [vectors(encoder, "query", [item])[0] for item in mixed]
    what = "encode_query: texts and media beside each other have other vectors than alone"
    within(what, map(gap, vectors(encoder, "query", mixed), alone), conditions.batch_tolerance)
    return None
