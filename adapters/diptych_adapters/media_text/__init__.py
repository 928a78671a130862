"""Media in a text encoder's space, and over a lexicon of words: models of the recipes `image_text`, `sound_text`, ...

Begin with `network`, which has what it gets of a picture, its heads and the files of a model; `encoders` has the
adapters. Sounds and clips are in `diptych_experimental.media_forms`.
"""
