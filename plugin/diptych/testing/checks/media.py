"""Checks of encoders of media, which get what diptych gives them: decoded arrays, of odd sizes among others."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diptych.media import Content, Sound
from diptych.media.canaries import media_canaries
from diptych.testing.checks.compare import SIDES, call, gap, numbers, vectors
from diptych.testing.checks.conditions import TEXTS, Check, Conditions, ConformanceFailure, conformance_check
from diptych.testing.checks.encoders import dimension_error
from diptych.types import SparseVector


@conformance_check
def check_media_vectors(encoder: Any, conditions: Conditions) -> None:
    """Media get finite float32 vectors of the declared dimension."""
    inputs = contents(conditions)
    for side in SIDES:
        raw, made = call(encoder, side, inputs), vectors(encoder, side, inputs)
        for part in [raw] if conditions.kind == "dense" else made:
            values = part.values if isinstance(part, SparseVector) else part
            if getattr(values, "dtype", None) != np.float32:
                got = getattr(values, "dtype", type(values).__name__)
                raise ConformanceFailure(f"encode_{side}: wrong type of numbers", got=got, expected="numpy float32")
        for vector in made:
            if error := dimension_error(vector, encoder.dimension, conditions):
                raise ConformanceFailure(f"encode_{side}: wrong dimension", got=error, expected=encoder.dimension)
            if not np.isfinite(numbers(vector)).all():
                raise ConformanceFailure(f"encode_{side}: not finite", got="NaN or infinity", expected="numbers")


@conformance_check
def check_media_alone_as_in_a_batch(encoder: Any, conditions: Conditions) -> None:
    """The i-th vector is the i-th item's, and depends on no other, within `batch_tolerance`."""
    inputs = contents(conditions)
    for side in SIDES:
        batch = vectors(encoder, side, inputs)
        alone = [vectors(encoder, side, [content])[0] for content in inputs]
        worst = max(gap(one, other) for one, other in zip(batch, alone, strict=True))
        if not worst <= conditions.batch_tolerance:
            expected = f"at most {conditions.batch_tolerance:g}"
            what = f"encode_{side}: an item alone has another vector than in a batch"
            raise ConformanceFailure(what, got=f"{worst:.3g}", expected=expected)


@conformance_check
def check_media_differ(encoder: Any, conditions: Conditions) -> None:
    """Items that differ plainly get different vectors."""
    first = vectors(encoder, "document", media_canaries(conditions.modality))
    if len(first) > 1 and not gap(first[0], first[-1]) > conditions.repeat_tolerance:
        raise ConformanceFailure("all media have one vector", got="no difference", expected="vectors of the content")


@conformance_check
def check_media_repeat(encoder: Any, conditions: Conditions) -> None:
    """Two calls with the same media give the same vectors, within `repeat_tolerance`."""
    inputs = contents(conditions)
    for side in SIDES:
        pairs = zip(vectors(encoder, side, inputs), vectors(encoder, side, inputs), strict=True)
        worst = max(gap(one, other) for one, other in pairs)
        if not worst <= conditions.repeat_tolerance:
            expected = f"at most {conditions.repeat_tolerance:g}"
            raise ConformanceFailure(f"encode_{side}: the second call differs", got=f"{worst:.3g}", expected=expected)


@conformance_check
def check_media_kept(encoder: Any, conditions: Conditions) -> None:
    """The arrays are not changed: other slots read them too."""
    inputs = [copy.deepcopy(content) for content in contents(conditions)]
    before = [_array(content).copy() for content in inputs]
    for content in inputs:
        _array(content).flags.writeable = True
    vectors(encoder, "document", inputs)
    for at, (content, then) in enumerate(zip(inputs, before, strict=True)):
        if not np.array_equal(_array(content), then):
            raise ConformanceFailure("encode_document changed its input", got=f"item {at}", expected="the same array")


@conformance_check
def check_no_media(encoder: Any, conditions: Conditions) -> None:
    """An empty batch gives no vectors and no error."""
    for side in SIDES:
        vectors(encoder, side, [])


@conformance_check
def check_texts_beside_media(encoder: Any, conditions: Conditions) -> None:
    """Where queries may be texts, texts and media in one call get the vectors that they get alone."""
    if not conditions.takes_texts:
        return
    mixed: list[Any] = [item for pair in zip(TEXTS, contents(conditions), strict=False) for item in pair]
    batch = vectors(encoder, "query", mixed)
    for at, item in enumerate(mixed):
        worst = gap(batch[at], vectors(encoder, "query", [item])[0])
        if not worst <= conditions.batch_tolerance:
            what = f"encode_query: {'a text' if isinstance(item, str) else 'an item'} beside others has another vector"
            raise ConformanceFailure(what, got=f"{worst:.3g}", expected=f"at most {conditions.batch_tolerance:g}")


MEDIA_CHECKS: tuple[Check, ...] = (
    check_media_vectors,
    check_media_alone_as_in_a_batch,
    check_media_differ,
    check_media_repeat,
    check_media_kept,
    check_no_media,
    check_texts_beside_media,
)


def contents(conditions: Conditions) -> list[Content]:
    """Plain and odd items of the modality, read-only: the smallest, very wide, one colour, silence."""
    items = [*media_canaries(conditions.modality), *_ODD[conditions.modality]]
    for content in items:
        _array(content).flags.writeable = False
    return items


def _array(content: Content) -> Any:
    return content.samples if isinstance(content, Sound) else content


def _pictures(*shapes: tuple[int, ...]) -> list[Content]:
    return [np.full((*shape, 3), 40 * at, np.uint8) for at, shape in enumerate(shapes, start=1)]


_ODD: Mapping[str, Sequence[Content]] = {
    "image": _pictures((1, 1), (3, 97), (80, 2), (31, 31)),
    "sound": [Sound(np.zeros(4_000, np.float32), 8_000), Sound(np.ones(1, np.float32), 22_050)],
    "video": _pictures((1, 20, 30), (3, 9, 40)),
    "series": [np.zeros((1, 1), np.float32), np.ones((50, 1), np.float32)],
    "points": [np.zeros((1, 3), np.float32), np.ones((7, 3), np.float32)],
}
