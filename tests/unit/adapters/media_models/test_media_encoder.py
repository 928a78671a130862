"""Adapters of transformers' media models, with tiny models of random weights: mechanics are tested, not quality."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file

from diptych.errors import AdapterOptionsError, ContractError
from diptych.media import Sound
from diptych.media.values import media_canaries
from diptych.registry import Registry
from diptych.slots import guard
from diptych_adapters import hooks
from diptych_adapters.media_models.encoder import FAMILIES, MediaEncoder
from diptych_adapters.media_models.readers import middle, resampled
from diptych_adapters.models import ModelError
from diptych_adapters.specs import SPECS
from tiny_media_models import MADE, saved

Folder = Callable[..., Path]
Encoder = Callable[..., MediaEncoder]
QUICK = ("clip", "siglip", "clap", "vit", "whisper", "wav2vec2", "videomae")
FEW = ("clip", "whisper", "videomae")
GUARDED = [pytest.param(kind, marks=() if kind in FEW else pytest.mark.slow) for kind in FAMILIES]
EVERY = [pytest.param(kind, marks=() if kind in QUICK else pytest.mark.slow) for kind in FAMILIES]
PICTURE = np.random.default_rng(3).integers(0, 256, (40, 50, 3), np.uint8)


def inputs_of(kind: str) -> list[Any]:
    family = FAMILIES[kind]
    texts = ["word1 word2", "word3", "word4 word5 word6 word7"] if family.with_text else []
    return [*media_canaries(family.reads), *texts]


def test_each_family_has_a_tiny_model_and_a_spec() -> None:
    assert MADE.keys() == FAMILIES.keys()
    (spec,) = [spec for spec in SPECS if spec.name == "transformers-media"]
    assert {choice["modality"]: variant.accepts for choice, variant in spec.each()} == {
        family.modality: (family.reads, "text") if family.with_text else (family.reads,) for family in FAMILIES.values()
    }


@pytest.mark.parametrize("kind", EVERY)
def test_vectors_are_in_order_and_do_not_depend_on_the_batch(kind: str, encoder: Encoder) -> None:
    inputs, made = inputs_of(kind), encoder(kind)
    together = made.encode_document(inputs)
    assert together.shape == (len(inputs), made.dimension)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    alone = np.concatenate([made.encode_query([one]) for one in inputs])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(made.encode_document(inputs[::-1]), together[::-1], atol=1e-5)
    assert (together @ together.T - 2 * np.eye(len(inputs))).max() < 0.9999, "different inputs, different vectors"
    assert made.encode_document([]).shape == (0, made.dimension)


@pytest.mark.parametrize("kind", GUARDED)
def test_a_model_loaded_again_passes_the_guard(kind: str, encoder: Encoder, folder: Folder, tmp_path: Path) -> None:
    family, first = FAMILIES[kind], encoder(kind)
    spec = Registry(hooks, installed=False).spec("transformers-media").with_options({"modality": family.modality})
    recorded = guard.record_canaries(first, "dense", family.reads, spec.accepts, where="slot")
    again = MediaEncoder(modality=family.modality, model=str(shutil.copytree(folder(kind), tmp_path / "elsewhere")))
    assert again.fingerprint == first.fingerprint
    repeated = guard.record_canaries(again, "dense", family.reads, spec.accepts, where="slot")
    assert repeated == recorded


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_picture_and_text_vectors_are_those_of_transformers(kind: str, encoder: Encoder, folder: Folder) -> None:
    processor = hf.AutoProcessor.from_pretrained(folder(kind), backend="pil")
    model = hf.AutoModel.from_pretrained(folder(kind)).eval()
    texts = ["word1 word2 word3", "word4"]
    padding = "max_length" if kind == "siglip" else True
    features = processor(text=texts, images=[Image.fromarray(PICTURE)], return_tensors="pt", padding=padding)
    with torch.inference_mode():
        answer = model(**features)
    expected = np.concatenate([answer.text_embeds.numpy(), answer.image_embeds.numpy()])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder(kind).encode_query([*texts, PICTURE]), expected, atol=1e-5)


def test_a_text_longer_than_the_model_reads_is_cut(encoder: Encoder) -> None:
    words = " ".join(f"word{n}" for n in range(14))
    cut, whole = encoder("clip").encode_query([words + " word20 word21", words])
    np.testing.assert_allclose(cut, whole, atol=1e-6)


@pytest.mark.parametrize("name", ["picture.png", "https://example.org/picture.png", "data:image/png;base64,AAAA"])
def test_a_string_is_a_text_whatever_it_names(
    name: str, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PICTURE).save("picture.png")
    text, picture = encoder("clip").encode_query([name, PICTURE])
    assert float(text @ picture) < 0.99
    with pytest.raises(ContractError, match=r"does not read this with modality: image\n[\s\S]*got: a text"):
        encoder("vit").encode_document([name])


@pytest.mark.parametrize(
    ("kind", "content", "got"),
    [
        ("vit", np.zeros((2, 8, 8, 3), np.uint8), "video content"),
        ("videomae", PICTURE, "image content"),
        ("whisper", np.zeros((9, 1), np.float32), "unknown content"),
    ],
)
def test_content_of_another_kind_is_refused(kind: str, content: Any, got: str, encoder: Encoder) -> None:
    with pytest.raises(ContractError, match=rf"does not read this[\s\S]*got: {got}[\s\S]*of: {FAMILIES[kind].reads}"):
        encoder(kind).encode_document([content])


def test_a_model_of_another_adapter_is_refused_by_name(folder: Folder) -> None:
    with pytest.raises(ModelError, match=r"(?s)which reads video.*set modality: video, in a slot `of: video`"):
        MediaEncoder(modality="image", model=str(folder("videomae")))
    with pytest.raises(ModelError, match=r"(?s)which reads image and text.*set modality: image-text"):
        MediaEncoder(modality="image", model=str(folder("clip")))


def test_a_model_type_that_nobody_serves_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match=r"(?s)model_type 'bert'.*one of clip, siglip"):
        MediaEncoder(modality="image-text", model=str(tmp_path))
    with pytest.raises(ModelError, match="no such model folder"):
        MediaEncoder(modality="image-text", model=str(tmp_path / "absent"))


def test_pickled_weights_are_refused(folder: Folder, tmp_path: Path) -> None:
    copy = shutil.copytree(folder("vit"), tmp_path / "copy")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickled"):
        MediaEncoder(modality="image", model=str(copy))


def test_weights_that_are_missing_are_named(folder: Folder, tmp_path: Path) -> None:
    copy = shutil.copytree(folder("clip"), tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 missing: visual_projection\.weight"):
        MediaEncoder(modality="image-text", model=str(copy))


def test_preprocessing_that_is_missing_or_of_another_model_is_named(folder: Folder, tmp_path: Path) -> None:
    copy = shutil.copytree(folder("vit"), tmp_path / "copy")
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="does not come with its preprocessing settings"):
        MediaEncoder(modality="image", model=str(copy))
    hf.ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(copy)
    with pytest.raises(ModelError, match="fails on the output of its own processor"):
        MediaEncoder(modality="image", model=str(copy))


def test_the_fingerprint_follows_weights_preprocessing_and_pooling(encoder: Encoder, tmp_path: Path) -> None:
    first = encoder("vit").fingerprint
    weights = MediaEncoder(modality="image", model=str(saved("vit", tmp_path / "weights", seed=1)))
    assert guard.difference(weights.fingerprint, first) == "weights"
    grey = saved("vit", tmp_path / "grey", image_mean=[0.1, 0.1, 0.1])
    assert guard.difference(MediaEncoder(modality="image", model=str(grey)).fingerprint, first) == "pooling"
    assert guard.difference(encoder("vit", pooling="mean").fingerprint, first) == "pooling"
    assert guard.difference(encoder("vit", normalize=False).fingerprint, first) == "pooling"
    heads = saved("vit", tmp_path / "heads")
    config = json.loads((heads / "config.json").read_text())
    (heads / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 0.1}))
    assert guard.difference(MediaEncoder(modality="image", model=str(heads)).fingerprint, first) == "weights"


def test_a_precision_is_numerics_and_not_another_space(encoder: Encoder) -> None:
    exact, rough = encoder("vit"), encoder("vit", precision="bfloat16")
    assert rough.fingerprint.space == exact.fingerprint.space
    assert rough.fingerprint.numerics != exact.fingerprint.numerics
    alike = (rough.encode_document([PICTURE]) * exact.encode_document([PICTURE])).sum()
    assert 0.98 < alike < 0.999999


def test_options_that_do_not_fit_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ModelError, match=r"(?s)option pooling.*got: cls.*expected: mean"):
        encoder("videomae", pooling="cls")
    with pytest.raises(ModelError, match="it projects by itself"):
        encoder("clip", pooling="mean")
    with pytest.raises(ValidationError, match="trust_remote_code"):
        encoder("clip", trust_remote_code=True)
    with pytest.raises(AdapterOptionsError, match="needs the option 'model'"):
        Registry(hooks, installed=False).create("transformers-media", {"modality": "image"})


def test_the_poolings_of_a_vision_transformer(folder: Folder, encoder: Encoder) -> None:
    processor = hf.AutoImageProcessor.from_pretrained(folder("vit"), backend="pil")
    model = hf.ViTModel.from_pretrained(folder("vit"), add_pooling_layer=False).eval()
    with torch.inference_mode():
        tokens = model(**processor(images=[Image.fromarray(PICTURE)], return_tensors="pt")).last_hidden_state[0].numpy()
    for pooling, expected in (("cls", tokens[0]), ("mean", tokens[1:].mean(axis=0))):
        (vector,) = encoder("vit", pooling=pooling, normalize=False).encode_document([PICTURE])
        np.testing.assert_allclose(vector, expected, atol=1e-5)
    with pytest.raises(ModelError, match=r"missing: pooler\.dense"):
        encoder("vit", pooling="pooler")


def test_a_picture_that_is_a_thin_line_is_read_in_its_middle(encoder: Encoder) -> None:
    line = np.zeros((2, 20_000, 3), np.uint8)
    line[:, 9_984:10_016] = 200
    assert middle(line).shape == (2, 32, 3)
    assert (middle(line) == 200).all()
    assert middle(PICTURE).shape == PICTURE.shape
    both = encoder("clip").encode_document([line, np.full((2, 32, 3), 200, np.uint8)])
    np.testing.assert_allclose(both[0], both[1], atol=1e-6)


def test_a_sound_is_resampled_to_the_rate_of_the_model(encoder: Encoder) -> None:
    at = {rate: np.arange(rate) / rate for rate in (8_000, 16_000, 44_100)}
    sounds = [Sound(np.sin(2 * np.pi * 440 * t).astype(np.float32) * 0.5, rate) for rate, t in at.items()]
    again = resampled(sounds[2], 16_000)
    assert again.shape == (16_000,)
    np.testing.assert_allclose(again[500:-500], sounds[1].samples[500:-500], atol=5e-3)
    vectors = encoder("wav2vec2").encode_document(sounds)
    assert (vectors @ vectors[1]).min() > 0.999
    other = Sound(sounds[0].samples, 16_000)  # the same samples, an octave higher
    assert float(encoder("wav2vec2").encode_document([other])[0] @ vectors[1]) < float(vectors[0] @ vectors[1])


@pytest.mark.parametrize("kind", ["clap", "whisper"])
def test_a_long_sound_is_the_mean_of_its_windows(kind: str, encoder: Encoder) -> None:
    made = encoder(kind, batch_size=2)
    rate = 8_000 if kind == "clap" else 16_000
    samples = np.random.default_rng(0).normal(size=rate * 2 + rate // 2).astype(np.float32) * 0.1
    windows = [Sound(samples[start : start + rate], rate) for start in range(0, len(samples), rate)]
    expected = np.average(made.encode_document(windows), axis=0, weights=[1, 1, 0.5])
    (whole,) = made.encode_document([Sound(samples, rate)])
    np.testing.assert_allclose(whole, expected / np.linalg.norm(expected), atol=1e-5)


def test_the_silence_that_fills_a_window_of_whisper_is_not_pooled(folder: Folder, encoder: Encoder) -> None:
    sound = Sound(np.random.default_rng(1).normal(size=5_000).astype(np.float32) * 0.1, 16_000)
    extractor = hf.WhisperFeatureExtractor.from_pretrained(folder("whisper"))
    model = hf.WhisperModel.from_pretrained(folder("whisper")).get_encoder().eval()
    with torch.inference_mode():
        frames = model(**extractor(sound.samples, sampling_rate=16_000, return_tensors="pt")).last_hidden_state[0]
    expected = frames[:16].mean(dim=0).numpy()  # 5,000 samples are 15.6 frames of 20 ms
    (vector,) = encoder("whisper", normalize=False).encode_document([sound])
    np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_frames_of_a_clip_are_taken_at_equal_distances(encoder: Encoder) -> None:
    clip = np.random.default_rng(2).integers(0, 256, (31, 32, 32, 3), np.uint8)
    whole, chosen = encoder("videomae").encode_document([clip, clip[[0, 10, 20, 30]]])
    np.testing.assert_allclose(whole, chosen, atol=1e-6)
    still = encoder("videomae").encode_document([clip[:1], np.repeat(clip[:1], 4, axis=0)])
    np.testing.assert_allclose(still[0], still[1], atol=1e-6)
