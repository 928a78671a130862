"""Passages: long documents cut into pieces that an encoder can read whole, inside the document's own point.

Begin with `text_splitter`, which cuts documents as a config or a plugin says, at headings, paragraphs, sentences and
code blocks, and adds context. `encoder` wraps an adapter: the rest of diptych sees an ordinary encoder. So does
`token_pooling`, which makes fewer vectors of a document's tokens.
"""

from __future__ import annotations

from diptych.passages.encoder import PassageEncoder, with_passages, without_passages
from diptych.passages.text_splitter import MARK, OPTION, ContextRequest, PassageHooks, PassageOptions, SplitRequest

__all__ = [
    "MARK",
    "OPTION",
    "ContextRequest",
    "PassageEncoder",
    "PassageHooks",
    "PassageOptions",
    "SplitRequest",
    "with_passages",
    "without_passages",
]
