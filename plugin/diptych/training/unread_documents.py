"""Says of documents that one trains with how much of them the model does not read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from diptych.protocols import TokenLimit


def unread_warning(model: TokenLimit, documents: Sequence[str]) -> str:
    """A warning if more than a tenth of the tokens of a sample is unread, else ""."""
    from diptych.slots.unread import FIRST, MOST_UNREAD, unread_by

    sample = [text for text in documents if text][:: max(1, len(documents) // FIRST)]
    unread = unread_by(model, sample)
    if unread is None or unread.share <= MOST_UNREAD:
        return ""
    return (
        f"warning: {replace(unread, sampled=len(sample) < len(documents))}, and nothing is learned from them: "
        "raise training.max_length as far as the model can read, or train on passages"
    )
