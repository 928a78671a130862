"""Sounds and clips as inputs of a network: spectrograms and frames; their adapters."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")

import torch

from contracts import contract
from diptych.media import Content, Sound
from diptych.testing import MediaEncoderContract
from diptych_adapters.media_text.encoders import MediaLexiconEncoder, MediaTextEncoder, space_of, text_encoder
from diptych_adapters.media_text.network import (
    FORMS,
    Form,
    MediaTextModel,
    MediaTextNetwork,
    TowerShape,
    convolutional,
    normalized,
)
from diptych_adapters.models import ModelError, resolve
from diptych_experimental import media_forms
from diptych_experimental.media_forms import Clip, Frames, Spectrogram

SMALL: dict[str, Form] = {"sound": Spectrogram(4000, 16, 24), "video": Clip(16, 3)}
LEXICON = ["audio", "hund", "music", "perro", "sound", "video"]
RATE = 16_000


def tone(hertz: float, seconds: float, rate: int = RATE, loud: float = 0.5) -> Sound:
    at = np.arange(int(rate * seconds)) / rate
    return Sound((loud * np.sin(2 * np.pi * hertz * at)).astype(np.float32), rate)


@pytest.fixture(scope="module")
def folders(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Models of random weights, by modality."""
    root, text = tmp_path_factory.mktemp("media-text"), tiny("mean")
    encoder = text_encoder("sentence-transformers", {"model": str(text)})
    settings = {"adapter": "sentence-transformers", "options": {"model": str(text)}, "space": space_of(encoder)}
    for of, form in SMALL.items():
        torch.manual_seed(0)
        network = MediaTextNetwork(TowerShape(form, 2, encoder.dimension, len(LEXICON))).eval()
        MediaTextModel(network, LEXICON, settings).save(root / of)
    return {of: root / of for of in SMALL}


TestSounds, TestClips, TestSoundsAsWords, TestClipsAsWords = (
    contract(
        MediaEncoderContract,
        modality=of,
        kind=kind,
        takes_texts=True,
        encoder=lambda cls, folders, of=of, make=make: make(model=str(folders[of]), device="cpu"),
    )
    for kind, of, make in (
        ("dense", "sound", media_forms.sound_text),
        ("dense", "video", media_forms.video_text),
        ("sparse", "sound", media_forms.sound_lexicon),
        ("sparse", "video", media_forms.video_lexicon),
    )
)


@pytest.mark.parametrize("hertz", [100.0, 440.0, 3000.0])
def test_a_tone_is_loudest_in_the_band_of_its_pitch(hertz: float) -> None:
    [part] = Spectrogram(RATE, 64, 64).parts(tone(hertz, 2.0))
    assert part.shape == (1, 64, 64)
    assert int(part.max()) == 255
    mel = 2595 * np.log10(1 + np.array([30.0, RATE / 2, hertz]) / 700)
    expected = (mel[2] - mel[0]) / (mel[1] - mel[0]) * 65 - 1
    assert abs(int(part[0, :, 32].argmax()) - expected) <= 1


def test_loudness_and_rate_change_a_spectrogram_little() -> None:
    form = Spectrogram(RATE, 32, 48)
    tones = (tone(500, 1.0), tone(500, 1.0, loud=0.005), tone(500, 1.0, rate=44_100))
    [own], [soft], [fast] = map(form.parts, tones)
    assert int((own.int() - soft.int()).abs().max()) <= 1
    assert float((own[:, :20].float() - fast[:, :20].float()).abs().mean()) < 8


def test_silence_is_black_and_a_short_sound_is_followed_by_silence() -> None:
    form = Spectrogram(RATE, 32, 48)
    assert int(form.parts(Sound(np.zeros(500, np.float32), RATE))[0].max()) == 0
    [part] = form.parts(tone(500, 0.25))
    assert int(part[..., :6].max()) == 255
    assert int(part[..., 12:].max()) == 0
    assert len(form.parts(Sound(np.ones(1, np.float32), 8000))) == 1


def test_a_long_sound_has_windows_of_which_the_last_ends_with_it() -> None:
    form, quiet = Spectrogram(RATE, 32, 48), tone(500, 1.0, loud=0.001).samples
    long = Sound(np.concatenate([quiet, tone(2000, 1.5).samples]), RATE)
    parts = form.parts(long)
    assert len(parts) == 3
    assert int(parts[0].max()) < 100, "quieter than the loudest of the whole sound"
    assert torch.equal(parts[2], form.parts(Sound(long.samples[-RATE:], RATE))[0])


def test_a_long_sound_has_the_mean_vector_of_its_windows(folders: dict[str, Path]) -> None:
    encoder = MediaTextEncoder("sound", model=str(folders["sound"]), device="cpu")
    rate, length = 4000, 16 * 125
    samples = np.random.default_rng(0).uniform(-1, 1, 2 * length).astype(np.float32)
    samples[[0, length]] = 1
    network = MediaTextModel.load(resolve(str(folders["sound"])), "sound").network
    parts = SMALL["sound"].parts(Sound(samples, rate))
    with torch.no_grad():
        expected = network(normalized(torch.stack(parts)))[0].mean(0)
    own, _ = encoder.encode_document([Sound(samples, rate), Sound(samples[:length], rate)])
    np.testing.assert_allclose(own, torch.nn.functional.normalize(expected, dim=0), atol=1e-5)


def test_a_clip_has_evenly_spaced_frames_and_a_picture_is_one_that_stands_still() -> None:
    frames = np.zeros((9, 20, 20, 3), np.uint8) + np.arange(9, dtype=np.uint8)[:, None, None, None] * 10
    [part] = Clip(16, 3).parts(frames)
    assert part[:, 0, 0, 0].tolist() == [0, 40, 80]
    assert Clip(16, 4).parts(frames[:2])[0][:, 0, 0, 0].tolist() == [0, 0, 10, 10]
    still, [one] = Clip(16, 3).parts(frames[4])[0], Clip(16, 1).parts(frames[4:5])
    assert still.shape == (3, 3, 16, 16)
    assert torch.equal(still, one.expand(3, -1, -1, -1))


@torch.no_grad()
def test_frames_that_repeat_go_through_the_network_once_with_the_same_result() -> None:
    torch.manual_seed(0)
    body, clips = Frames(2).eval(), torch.randn(3, 4, 3, 16, 16)
    clips[0, 2] = clips[0, 1]
    clips[2] = clips[2, :1]
    seen: list[int] = []
    body.frame.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    found = body(clips)
    features = body.frame(clips.flatten(0, 1)).unflatten(0, (3, 4))
    change = (features[:, 1:] - features[:, :-1]).abs().mean(1)
    np.testing.assert_allclose(found, torch.cat([features.mean(1), change], 1), atol=1e-5)
    assert seen[0] == 4 + 3 + 1
    assert body.features == 2 * convolutional(3, 2)[1]
    assert float(found[2, body.features // 2 :].abs().max()) == 0


def test_every_body_learns_from_batches_that_end_with_one_row() -> None:
    sizes = {"sound": (1, 24, 16), "video": (3, 3, 16, 16)}
    for of, form in SMALL.items():
        network = MediaTextNetwork(TowerShape(form, 2, 4, 3)).train()
        for count in (5, 1):
            vectors, words = network(torch.randn(count, *sizes[of]))
            assert words is not None
            (vectors.sum() + words.sum()).backward()
            assert bool(torch.isfinite(vectors).all())


@pytest.mark.parametrize(
    ("of", "wrong"),
    [
        ("sound", np.zeros(40, np.float32)),
        ("sound", Sound(np.zeros(0, np.float32), 8000)),
        ("video", Sound(np.zeros(4, np.float32), 8000)),
        ("video", np.zeros((0, 4, 4, 3), np.uint8)),
        ("video", np.zeros((2, 4, 4), np.float32)),
    ],
)
def test_what_is_of_another_modality_is_refused(of: str, wrong: Content, folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"not a (sound|clip|picture)(?s:.*)got(?s:.*)expected"):
        MediaTextEncoder(of, model=str(folders[of])).encode_document([wrong])


def test_a_model_of_another_modality_is_refused_by_its_recipe(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match=r"none of the recipe image_text(?s:.*)diptych-sound-text"):
        MediaTextEncoder("image", model=str(folders["sound"]))


def test_sizes_that_cannot_be_are_refused(folders: dict[str, Path]) -> None:
    config = folders["sound"] / "config.json"
    saved = config.read_text("utf-8")
    try:
        for wrong in ({"rate": 3}, {"frames": 0}, {"bands": "many"}, {"bands": 25, "rate": None}):
            config.write_text(json.dumps({**json.loads(saved), **wrong}), "utf-8")
            with pytest.raises(ModelError, match="do not go together"):
                MediaLexiconEncoder("sound", model=str(folders["sound"]))
    finally:
        config.write_text(saved, "utf-8")


def test_every_size_is_part_of_the_space(folders: dict[str, Path]) -> None:
    for of, folder in folders.items():
        space = MediaTextEncoder(of, model=str(folder)).fingerprint.space
        sizes = ",".join(str(getattr(SMALL[of], own.name)) for own in fields(FORMS[of]))
        assert f"pooling:{of}-text({sizes},2)+normalize" in space
