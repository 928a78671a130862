"""Media in a text encoder's space, and over a lexicon of words: models of the recipes `image_text`, `sound_text`, ...

Begin with `forms`, which says what a network gets of a picture, a sound or a clip, and has the
networks' first halves; `network` has the heads and the files of a model, `encoders` the adapters.
"""

from __future__ import annotations
