"""The public checks of an encoder of media, for an adapter of each modality that transformers has models for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest

from diptych.testing import MediaEncoderContract
from diptych_adapters.media_models.encoder import FAMILIES, MediaEncoder


class Contract(MediaEncoderContract):
    model_type: ClassVar[str]

    @pytest.fixture
    def encoder(self, folder: Callable[..., Path]) -> MediaEncoder:
        return MediaEncoder(modality=FAMILIES[self.model_type].modality, model=str(folder(self.model_type)))


class TestPictures(Contract):
    modality: ClassVar[str] = "image"
    model_type = "clip"
    takes_texts: ClassVar[bool] = True


class TestSounds(Contract):
    modality: ClassVar[str] = "sound"
    model_type = "whisper"


class TestClips(Contract):
    modality: ClassVar[str] = "video"
    model_type = "videomae"
