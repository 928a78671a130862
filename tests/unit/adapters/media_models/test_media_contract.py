"""The public checks of an encoder of media, for an adapter of each modality that transformers has models for."""

from __future__ import annotations

from contracts import contract
from diptych.testing import MediaEncoderContract
from diptych_adapters.media_models.encoder import FAMILIES, MediaEncoder

TestPictures, TestSounds, TestClips = (
    contract(
        MediaEncoderContract,
        scope="function",
        modality=of,
        takes_texts=of == "image",
        encoder=lambda cls, folder, name=name: MediaEncoder(FAMILIES[name].modality, model=str(folder(name))),
    )
    for of, name in (("image", "clip"), ("sound", "whisper"), ("video", "videomae"))
)
