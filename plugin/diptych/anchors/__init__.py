"""Anchors: fixed queries that a reranker has scored against every document, so that a search can use its scores.

Begin with `options` (what a config says). `encoder` wraps a reranker: the rest of diptych sees an ordinary dense
encoder whose vector of a document holds the reranker's scores. `texts` reads, chooses and writes the anchors.
"""

from __future__ import annotations

from diptych.anchors.encoder import AnchorEncoder, anchors_digest, reranker_space
from diptych.anchors.options import ANCHORS, AnchorOptions, anchored, has_anchors
from diptych.anchors.texts import choose_anchors, read_anchors, write_anchors

__all__ = [
    "ANCHORS",
    "AnchorEncoder",
    "AnchorOptions",
    "anchored",
    "anchors_digest",
    "choose_anchors",
    "has_anchors",
    "read_anchors",
    "reranker_space",
    "write_anchors",
]
