"""Passages: long documents cut into pieces that an encoder can read whole, inside the document's own point.

Begin with `options` (what a config says) and `split` (where a document is cut); `boundaries` finds headings,
paragraphs, sentences and code blocks. `encoder` wraps an adapter, so that the rest of diptych sees an ordinary encoder.
"""

from __future__ import annotations

from diptych.passages.encoder import MARK, PassageEncoder, vector_kind, with_passages
from diptych.passages.options import OPTION, PassageOptions
from diptych.passages.split import Split

__all__ = ["MARK", "OPTION", "PassageEncoder", "PassageOptions", "Split", "vector_kind", "with_passages"]
