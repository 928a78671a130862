"""Passages: long documents cut into pieces that an encoder can read whole, inside the document's own point.

Begin with `options` (what a config says) and `text_splitter` (where a text is cut); `boundaries` finds headings,
paragraphs, sentences and code blocks. `document_splitter` cuts documents by an encoder's tokens, or as a plugin does,
and adds context. `encoder` wraps an adapter: the rest of diptych sees an ordinary encoder.
"""

from __future__ import annotations

from diptych.passages.document_splitter import MARK, ContextRequest, PassageHooks, SplitRequest
from diptych.passages.encoder import PassageEncoder, vector_kind, with_passages, without_passages
from diptych.passages.options import OPTION, PassageOptions

__all__ = [
    "MARK",
    "OPTION",
    "ContextRequest",
    "PassageEncoder",
    "PassageHooks",
    "PassageOptions",
    "SplitRequest",
    "vector_kind",
    "with_passages",
    "without_passages",
]
