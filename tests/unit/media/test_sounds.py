"""Sounds, and arrays of any kind: what is bad is refused by name, what is unusual has the right numbers."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diptych.errors import MediaError
from diptych.media import Content, MediaConfig, MediaStore, Sound


def store(**limits: Any) -> MediaStore:
    return MediaStore(MediaConfig(**limits), Path("/nowhere"))


def decoded(modality: str, raw: Any, **limits: Any) -> Content:
    media = store(**limits)
    return media.content(media.take(modality, raw))


def sound(raw: Any, **limits: Any) -> Sound:
    found = decoded("sound", raw, **limits)
    assert isinstance(found, Sound)
    assert found.samples.dtype == np.float32
    return found


def wav(frames: bytes, *, width: int = 2, channels: int = 1, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((channels, width, rate, 0, "NONE", ""))
        written.writeframes(frames)
    return file.getvalue()


def npy(array: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def float_wav(samples: NDArray[np.float32], rate: int = 8000) -> bytes:
    """A WAV file of floats, which the standard library does not write."""
    body = samples.astype("<f4").tobytes()
    head = b"fmt " + struct.pack("<IHHIIHH", 16, 3, 1, rate, 4 * rate, 4, 32)
    return (
        b"RIFF"
        + struct.pack("<I", 4 + len(head) + 8 + len(body))
        + b"WAVE"
        + head
        + b"data"
        + struct.pack("<I", len(body))
        + body
    )


@pytest.mark.parametrize(
    ("width", "frames"),
    [
        (1, bytes([128, 255, 0])),
        (2, struct.pack("<3h", 0, 32767, -32768)),
        (3, b"\0\0\0\xff\xff\x7f\0\0\x80"),
        (4, struct.pack("<3i", 0, 2**31 - 1, -(2**31))),
    ],
)
def test_samples_of_each_width_reach_from_minus_one_to_one(width: int, frames: bytes) -> None:
    found = sound(wav(frames, width=width))
    assert found.rate == 8000
    assert found.samples == pytest.approx([0, 1, -1], abs=1 / 127)


def test_channels_are_averaged() -> None:
    frames = struct.pack("<4h", 16384, 0, -16384, -16384)
    assert sound(wav(frames, channels=2)).samples.tolist() == [0.25, -0.5]


def test_a_sound_that_is_given_comes_back() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, 500).astype(np.float32)
    samples[:2] = 1, -1
    found = sound(Sound(samples, 16_000))
    assert found.rate == 16_000
    assert np.abs(found.samples - samples).max() < 1e-7


def test_a_huge_wav_is_refused_by_what_its_header_states() -> None:
    data = bytearray(wav(b"\0\0" * 100))
    data[40:44] = struct.pack("<I", 2**32 - 2)
    with pytest.raises(MediaError, match="shorter than its header says"):
        store().take("sound", bytes(data))


def test_a_wav_cut_short_is_refused() -> None:
    data = wav(b"\1\0" * 100)
    with pytest.raises(MediaError, match="shorter than its header says"):
        sound(data[:-20])
    with pytest.raises(MediaError, match="shorter than its header says"):
        sound(float_wav(np.zeros(50, np.float32))[:-20])
    head = bytearray(data[:20])
    head[4:8] = bytes(4)
    with pytest.raises(MediaError, match="the sound cannot be decoded"):
        sound(bytes(head))


def test_a_sound_that_is_too_long_is_refused() -> None:
    data = wav(b"\0\0" * 8001)
    assert len(sound(data, max_seconds=1.1).samples) == 8001
    with pytest.raises(MediaError, match=r"too long\n.*got: 1.0 s or more|too long[^$]*media.max_seconds"):
        store(max_seconds=1).take("sound", data)


def test_a_sound_without_samples_or_with_an_impossible_rate_is_refused() -> None:
    with pytest.raises(MediaError, match="the sound has no samples"):
        sound(wav(b""))
    data = bytearray(wav(b"\0\0" * 10))
    data[24:28] = struct.pack("<I", 0)
    with pytest.raises(MediaError, match=r"rate or channels cannot be used|cannot be decoded"):
        store().take("sound", bytes(data))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_samples_that_are_no_numbers_are_refused(bad: float) -> None:
    samples = np.array([0, bad, 0], np.float32)
    with pytest.raises(MediaError, match="NaN or infinity at 1"):
        store().take("sound", Sound(samples, 8000))
    with pytest.raises(MediaError, match=r"NaN or infinity at 1|diptych\[sound\]"):
        sound(float_wav(samples))


def test_a_wav_of_floats_is_read_by_soundfile_or_its_extra_is_named() -> None:
    samples = np.array([0, 0.5, -0.25], np.float32)
    try:
        import soundfile  # noqa: F401
    except ImportError:
        with pytest.raises(MediaError, match=r"needs soundfile[^$]*diptych\[sound\]"):
            sound(float_wav(samples))
    else:
        assert sound(float_wav(samples)).samples.tolist() == samples.tolist()


def test_samples_beyond_one_an_array_without_rate_and_a_picture_are_no_sounds() -> None:
    with pytest.raises(MediaError, match="largest 2, rate 8000"):
        store().take("sound", Sound(np.array([2], np.float32), 8000))
    with pytest.raises(MediaError, match=r"give Sound\(samples, rate\)"):
        store().take("sound", np.zeros(10, np.float32))
    with pytest.raises(MediaError, match=r"diptych cannot read this sound[^$]*got: PNG bytes"):
        store().take("sound", b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (npy(np.array([1j])), "does not hold numbers[^$]*complex128"),
        (npy(np.array(["a"])), "does not hold numbers"),
        (npy(np.zeros(9))[:-8], "shorter than its header says"),
        (npy(np.zeros(9))[:30], "the array cannot be decoded"),
        (b"\x93NUMPY\x09\x00" + npy(np.zeros(9))[8:], "the array cannot be decoded[^$]*version"),
        (npy(np.zeros(9)).replace(b"(9,)", b"(-9)"), "cannot be decoded|shorter"),
        (npy(np.zeros(9)).replace(b"(9,), }   ", b"(9000000000000,), }"[:19].ljust(10)), "cannot be decoded|shorter"),
    ],
)
def test_a_bad_array_is_refused_by_its_header(raw: Any, message: str) -> None:
    for modality in ("image", "video"):
        with pytest.raises(MediaError, match=message):
            store().take(modality, raw)


class Traps:
    """Runs when it is unpickled."""

    ran: list[int] = []  # noqa: RUF012

    def __reduce__(self) -> tuple[Any, ...]:
        return (Traps.ran.append, (1,))


def test_objects_in_an_array_are_refused_and_never_unpickled() -> None:
    file = io.BytesIO()
    np.save(file, np.array([Traps()], dtype=object), allow_pickle=True)
    assert b"append" in file.getvalue()
    for modality in ("image", "video"):
        with pytest.raises(MediaError, match=r"does not hold numbers[^$]*Python objects"):
            store().take(modality, file.getvalue())
    assert Traps.ran == []
