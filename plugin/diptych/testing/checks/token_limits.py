"""The check of encoders that read only the first tokens of a document."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.protocols import TokenLimit
from diptych.testing.checks.compare import gap, vectors
from diptych.testing.checks.conditions import ODD_TEXTS, Conditions
from diptych.testing.conformance import ConformanceFailure, conformance_check

LONGEST = 8192  # tokens of the longest limit that is tried: encoding more takes minutes on a CPU


@conformance_check
def check_token_limit(encoder: Any, conditions: Conditions) -> None:
    """An encoder with TokenLimit says where tokens are, and reads `max_tokens` of a document: no more and no fewer."""
    if not isinstance(encoder, TokenLimit):
        return
    texts = [*conditions.texts, *ODD_TEXTS, ""]
    spans = encoder.token_spans(texts)
    if len(spans) != len(texts):
        raise ConformanceFailure("token_spans lost or added texts", got=len(spans), expected=len(texts))
    for text, places in zip(texts, spans, strict=True):
        _check_spans(text, places)
        if not np.array_equal(places, encoder.token_spans([text])[0]):
            got = "other spans alone than in a batch"
            raise ConformanceFailure(
                "token_spans depends on the batch", where=repr(text[:40]), got=got, expected="equal"
            )
    if encoder.max_tokens and encoder.max_tokens <= LONGEST:
        _check_limit(encoder, conditions, encoder.max_tokens)


def _check_spans(text: str, spans: NDArray[np.int32]) -> None:
    expected = f"int32 [tokens, 2] that ascends within the {len(text)} characters"
    if not isinstance(spans, np.ndarray) or spans.dtype != np.int32 or spans.ndim != 2 or spans.shape[1] != 2:
        got = f"{spans.dtype} {list(spans.shape)}" if isinstance(spans, np.ndarray) else type(spans).__name__
        raise ConformanceFailure("token_spans gives no spans", where=repr(text[:40]), got=got, expected=expected)
    begins, ends = spans.T.astype(np.int64)
    inside = (begins >= 0).all() and (begins <= ends).all() and (ends <= len(text)).all()
    if not inside or (np.diff(begins) < 0).any():
        raise ConformanceFailure(
            "token_spans gives impossible spans", where=repr(text[:40]), got=spans[:8].tolist(), expected=expected
        )


def _check_limit(encoder: Any, conditions: Conditions, limit: int) -> None:
    """Compare a text that is too long with its read part, encoded alike, and with a word less, encoded otherwise."""
    text, read, less = _long_text(encoder, conditions, limit)
    whole, part, shorter = (vectors(encoder, "document", [each])[0] for each in (text, read, less))
    beyond, noise = gap(whole, part), conditions.batch_tolerance
    if beyond > noise:
        raise ConformanceFailure(
            f"more is read of a document than max_tokens = {limit} says",
            got=f"without the rest the vector differs by {beyond:.2g}",
            expected=f"at most {noise:g}",
        )
    if gap(whole, shorter) <= beyond:
        raise ConformanceFailure(
            f"less is read of a document than max_tokens = {limit} says",
            got="the same vector without the last word before that",
            expected="another vector",
        )


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
    raise ConformanceFailure(
        "token_spans never ends a word where max_tokens ends",
        got=f"max_tokens = {limit}, texts of {len(words)} words in turn",
        expected="the token after it begins a new word",
    )
