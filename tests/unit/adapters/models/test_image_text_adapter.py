"""Pictures and texts in one dense space, and over one lexicon; the network has random weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

import torch

from contracts import contract
from diptych.testing import DenseEncoderContract, MediaEncoderContract, SparseEncoderContract
from diptych_adapters.media_text.encoders import MediaLexiconEncoder, MediaTextEncoder, space_of, text_encoder
from diptych_adapters.media_text.network import MediaTextModel, MediaTextNetwork, Picture, TowerShape, fitted, words_of
from diptych_adapters.models import ModelError, resolve

LEXICON = ["audio", "hund", "music", "perro", "sound", "video"]


def written(text: Path, place: Path, words: list[str], seed: int = 0) -> Path:
    """A model of random weights over the text encoder of a folder."""
    torch.manual_seed(seed)
    encoder = text_encoder("sentence-transformers", {"model": str(text)})
    settings = {"adapter": "sentence-transformers", "options": {"model": str(text)}}
    network = MediaTextNetwork(TowerShape(Picture(16), width=4, dimension=encoder.dimension, terms=len(words))).eval()
    MediaTextModel(network, words, {**settings, "space": space_of(encoder)}).save(place)
    return place


@pytest.fixture(scope="module")
def text(tiny: Callable[[str], Path]) -> Path:
    return tiny("mean")


@pytest.fixture(scope="module")
def folder(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(text, tmp_path_factory.mktemp("image-text") / "run", LEXICON)


@pytest.fixture(scope="module")
def images() -> list[NDArray[Any]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 255, shape, np.uint8) for shape in ((16, 16, 3), (9, 30, 3), (1, 1, 3), (40, 16, 3))]


def dense(folder: Path, **options: Any) -> MediaTextEncoder:
    return MediaTextEncoder("image", model=str(folder), device="cpu", **options)


def lexicon(folder: Path, **options: Any) -> MediaLexiconEncoder:
    return MediaLexiconEncoder("image", model=str(folder), device="cpu", **options)


# the text encoder's weights are random
TestImageText = contract(DenseEncoderContract, triples=(), encoder=lambda cls, folder: dense(folder))
TestImageLexicon = contract(SparseEncoderContract, triples=(), encoder=lambda cls, folder: lexicon(folder))
TestPictures = contract(MediaEncoderContract, takes_texts=True, encoder=lambda cls, folder: dense(folder))
TestPicturesAsWords = contract(
    MediaEncoderContract, kind="sparse", takes_texts=True, encoder=lambda cls, folder: lexicon(folder)
)


def test_pictures_become_square_by_white_and_are_scaled() -> None:
    wide = fitted(np.zeros((8, 16, 3), np.uint8), 16)
    assert wide.shape == (3, 16, 16)
    assert [int(wide[0, row, 0]) for row in (0, 4, 11, 15)] == [255, 0, 0, 255]
    assert fitted(np.full((50, 50, 3), 7, np.uint8), 16).unique().tolist() == [7]


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused_with_its_shape(folder: Path, wrong: NDArray[Any]) -> None:
    with pytest.raises(ModelError, match=r"not a picture(?s:.*)uint8 \[height, width, 3\]"):
        dense(folder).encode_document([wrong])


def test_a_picture_is_told_in_words_the_heaviest_first(folder: Path, images: list[NDArray[Any]]) -> None:
    encoder = lexicon(folder)
    network = MediaTextModel.load(resolve(str(folder)), "image").network
    for image, vector in zip(images, encoder.encode_document(images), strict=True):
        with torch.no_grad():
            row = network(fitted(image, 16)[None].float() / 127.5 - 1)[1][0].numpy()
        told = encoder.decode(vector)
        assert dict(told) == pytest.approx({LEXICON[n]: row[n] for n in np.flatnonzero(row)}, abs=1e-5)
        assert [weight for _, weight in told] == sorted((weight for _, weight in told), reverse=True)
    [few] = lexicon(folder, max_active_dims=1).encode_document(images[:1])
    assert encoder.decode(few) == encoder.decode(encoder.encode_document(images[:1])[0], 1)


def test_a_text_is_its_words_in_any_language_and_else_what_the_text_side_says(folder: Path) -> None:
    encoder, side = lexicon(folder), lexicon(folder, queries="encoder")
    words, unknown, empty = encoder.encode_query(["Hund & perro, perro!", "file format", ""])
    assert sorted(word for word, _ in encoder.decode(words)) == ["hund", "perro"]
    assert np.linalg.norm(words.values) == pytest.approx(1)
    [by_side] = side.encode_query(["file format"])
    assert (unknown.indices.tolist(), unknown.values.tolist()) == (by_side.indices.tolist(), by_side.values.tolist())
    assert len(empty.indices) == 0
    assert words_of("Hunde-Gesicht 犬の顔") == ["hunde", "gesicht", "犬の", "の顔"]


def test_how_queries_are_read_changes_the_space_and_leaves_the_pictures(folder: Path) -> None:
    words, side = lexicon(folder).fingerprint, lexicon(folder, queries="encoder").fingerprint
    assert words.space != side.space
    assert words.documents == side.documents
    assert dense(folder).fingerprint.space != words.space


def test_another_text_encoder_than_in_training_is_refused_when_it_is_needed(
    folder: Path, tiny: Callable[[str], Path], images: list[NDArray[Any]], tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(tiny("mean"), tmp_path / "moved"))
    assert dense(folder, text_model=str(moved)).encode_query(["music"]).shape == (1, 16)
    other = dense(folder, text_model=str(tiny("cls")))
    assert len(other.encode_document(images)) == len(images)
    with pytest.raises(ModelError, match="is not the one that it was trained with"):
        other.encode_query(["music"])


def test_a_model_without_a_lexicon_is_no_lexicon(text: Path, images: list[NDArray[Any]], tmp_path: Path) -> None:
    plain = written(text, tmp_path / "plain", [])
    assert dense(plain).encode_document(images).shape == (len(images), 16)
    with pytest.raises(ModelError, match=r"has no lexicon(?s:.*)media-text"):
        lexicon(plain)


def test_a_folder_that_is_damaged_or_of_another_kind_is_refused(folder: Path, text: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none of the recipe image_text"):
        dense(text)
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    (damaged / "words.json").write_text(json.dumps(LEXICON[:-1]), "utf-8")
    with pytest.raises(ModelError, match="5 words for 6 terms"):
        lexicon(damaged)
    for wrong in ({"width": 8}, {"size": "large"}, {"text": None}):
        (damaged / "config.json").write_text(json.dumps({**json.loads((folder / "config.json").read_text()), **wrong}))
        with pytest.raises(ModelError, match="do not go together"):
            dense(damaged)
    shutil.copy(folder / "config.json", damaged / "config.json")
    (damaged / "model.safetensors").write_bytes(b"none")
    with pytest.raises(ModelError, match="do not go together"):
        dense(damaged)
