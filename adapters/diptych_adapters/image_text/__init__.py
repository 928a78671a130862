"""Pictures in the space of a text encoder, and over a lexicon of words: the models of the recipe `image_text`."""

from __future__ import annotations
