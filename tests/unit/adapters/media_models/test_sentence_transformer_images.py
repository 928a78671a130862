"""The adapter of sentence-transformers' models of pictures and texts, with a tiny CLIP of random weights."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from diptych.errors import ContractError
from diptych.media import Sound
from diptych.media.values import media_canaries
from diptych.slots import guard
from diptych_adapters.media_models.encoder import MediaEncoder, SentenceTransformerImageEncoder
from diptych_adapters.models import ModelError
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder
from tiny_encoders import tiny_encoder
from tiny_media_models import saved

Folder = Callable[..., Path]
PICTURE = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)
NAMES = ["picture.png", "https://127.0.0.1:9/picture.png", "data:image/png;base64,AAAA"]


@pytest.fixture(scope="module")
def encoder(folder: Folder) -> SentenceTransformerImageEncoder:
    return SentenceTransformerImageEncoder(model=str(folder("clip")))


@pytest.fixture
def without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder with `picture.png`, where a connection is an error."""

    def refused(*arguments: Any) -> None:
        raise AssertionError("a text was taken for an address")

    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURE).save("picture.png")


def test_the_vectors_are_those_of_the_same_model_of_transformers(
    encoder: SentenceTransformerImageEncoder, folder: Folder
) -> None:
    inputs = ["word1 word2", *media_canaries("image"), "word3", PICTURE]
    expected = MediaEncoder(modality="image-text", model=str(folder("clip"))).encode_query(inputs)
    vectors = encoder.encode_query(inputs)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    alone = np.concatenate([encoder.encode_document([one]) for one in inputs])
    np.testing.assert_allclose(vectors, alone, atol=1e-5)
    assert encoder.encode_query([]).shape == (0, 24)


@pytest.mark.usefixtures("without_network")
@pytest.mark.parametrize("name", NAMES)
def test_a_string_is_a_text_whatever_it_names(name: str, encoder: SentenceTransformerImageEncoder) -> None:
    of_words, picture = encoder.encode_query([name, PICTURE])
    assert float(of_words @ picture) < 0.99
    np.testing.assert_allclose(of_words, encoder.encode_document([f" {name} "])[0], atol=1e-6)


@pytest.mark.usefixtures("without_network")
@pytest.mark.parametrize("name", NAMES)
def test_the_adapter_of_texts_opens_no_file_either(name: str, folder: Folder) -> None:
    texts = SentenceTransformerEncoder.of(model=str(folder("clip")), normalize=True)
    by_tokens = texts.encode_query([name])
    texts.runner = None  # as for models of which the library must run a part
    np.testing.assert_allclose(texts.encode_query([name]), by_tokens, atol=1e-5)
    assert float(by_tokens[0] @ texts.encode_query([f" {name} "])[0]) > 0.999


def test_a_model_loaded_again_passes_the_guard_and_another_does_not(
    encoder: SentenceTransformerImageEncoder, folder: Folder, tmp_path: Path
) -> None:
    def canaries(of: Any) -> Any:
        return guard.record_canaries(of, "dense", "image", ("image", "text"), where="slot")

    again = SentenceTransformerImageEncoder(model=str(shutil.copytree(folder("clip"), tmp_path / "copy")))
    assert again.fingerprint == encoder.fingerprint
    assert canaries(again) == canaries(encoder)
    other = SentenceTransformerImageEncoder(model=str(saved("clip", tmp_path / "other", seed=1)))
    assert guard.difference(other.fingerprint, encoder.fingerprint) == "weights"
    grey = SentenceTransformerImageEncoder(model=str(saved("clip", tmp_path / "grey", image_mean=[0.1, 0.1, 0.1])))
    assert guard.difference(grey.fingerprint, encoder.fingerprint) == "pooling"


def test_vectors_are_cut_and_of_length_1(folder: Folder, encoder: SentenceTransformerImageEncoder) -> None:
    short = SentenceTransformerImageEncoder(model=str(folder("clip")), truncate_dim=8)
    assert short.dimension == 8
    (vector,) = short.encode_document([PICTURE])
    whole = encoder.encode_document([PICTURE])[0, :8]
    np.testing.assert_allclose(vector, whole / np.linalg.norm(whole), atol=1e-6)
    with pytest.raises(ModelError, match=r"(?s)truncate_dim is more.*at most 24"):
        SentenceTransformerImageEncoder(model=str(folder("clip")), truncate_dim=25)


def test_models_that_do_not_read_both_are_refused(folder: Folder, tmp_path: Path) -> None:
    tiny_encoder(tmp_path / "bare").save(str(tmp_path / "bert"))
    with pytest.raises(
        ModelError, match=r"(?s)does not read both.*use adapter: sentence-transformers, modality: text$"
    ):
        SentenceTransformerImageEncoder(model=str(tmp_path / "bert"))
    with pytest.raises(ModelError, match=r"(?s)does not read both.*use adapter: transformers-media, modality: image$"):
        SentenceTransformerImageEncoder(model=str(folder("dinov2")))


def test_content_of_another_kind_is_refused(encoder: SentenceTransformerImageEncoder) -> None:
    for content in (Sound(np.zeros(9, np.float32), 9), np.zeros((2, 8, 8, 3), np.uint8)):
        with pytest.raises(ContractError, match="modality: image-text does not read this"):
            encoder.encode_document([content])


def test_missing_weights_of_the_side_of_pictures_are_named(folder: Folder, tmp_path: Path) -> None:
    copy = shutil.copytree(folder("clip"), tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    rest = {key: value for key, value in weights.items() if not key.startswith("vision_model")}
    save_file(rest, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"missing: vision_model"):
        SentenceTransformerImageEncoder(model=str(copy))
