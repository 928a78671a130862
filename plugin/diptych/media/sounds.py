"""Decodes sounds: WAV by the standard library, others by soundfile. And what all decoders share."""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import MediaError, brief
from diptych.media.read import format_of, stated_length
from diptych.media.values import MediaConfig, Sound

SOUNDS = ("WAV", "FLAC", "Ogg", "MP3", "AIFF")
FASTEST = 768_000  # samples per second
_WIDEST = 64  # channels
_BLOCK = 1 << 18


@contextmanager
def decoding(kind: str, where: str) -> Iterator[None]:
    """Within the block, whatever a decoder raises becomes a MediaError."""
    try:
        yield
    except MediaError:
        raise
    except Exception as error:  # decoders raise any class for damaged bytes
        raise undecodable(kind, error, where) from error


def undecodable(kind: str, error: Exception, where: str) -> MediaError:
    """The error for bytes that a decoder did not take."""
    first = (str(error).strip().splitlines() or ["no message"])[0]
    what, do = f"the {kind} cannot be decoded", "check that the file is complete"
    return MediaError(what, where=where, got=f"{type(error).__name__}: {first[:200]}", do=do)


def check_complete(data: bytes, where: str) -> None:
    """Raise MediaError where a sound or clip has fewer bytes than its headers state: decoders would return a part."""
    if (stated := stated_length(data)) > len(data):
        got = f"{len(data):,} bytes, by its header at least {stated:,}"
        raise MediaError(
            "the file is shorter than its header says", where=where, got=got, do="copy the whole file again"
        )


def check_sound(data: bytes, limits: MediaConfig, where: str) -> None:
    """Raise MediaError where the header is not a sound's, or states more than the limits or the bytes allow."""
    found = format_of(data)
    if found not in SOUNDS:
        expected = ", ".join(SOUNDS)
        raise MediaError("diptych cannot read this sound", where=where, got=f"{found} bytes", expected=expected)
    check_complete(data, where)
    if found == "WAV":
        with decoding("sound", where), _wave(data) as file:
            if file is not None:
                _check_wave(file.getparams(), len(data), limits, where)


def decode_sound(data: bytes, limits: MediaConfig, where: str) -> Sound:
    """The sound, its channels averaged."""
    check_sound(data, limits, where)
    with decoding("sound", where), _wave(data) as file:
        sound = _from_soundfile(data, limits, where) if file is None else _from_wave(file, where)
    if not len(sound.samples):
        raise MediaError("the sound has no samples", where=where, expected="at least 1")
    return finite_sound(sound, where)


def finite_sound(sound: Sound, where: str) -> Sound:
    """The sound; raises MediaError where samples are not finite."""
    if not np.isfinite(sound.samples).all():
        at = int(np.flatnonzero(~np.isfinite(sound.samples))[0])
        raise MediaError("the sound has samples that are not numbers", where=where, got=f"NaN or infinity at {at:,}")
    return sound


def wave_bytes(sound: Sound, where: str) -> bytes:
    """A sound that a user gave, as a WAV file of 32 bits."""
    samples = np.asarray(sound.samples)
    if samples.ndim != 1 or samples.dtype.kind != "f" or not len(samples):
        got = f"{samples.dtype} {list(samples.shape)}"
        raise MediaError("the samples are not a sound", where=where, got=got, expected="float32 [n], one channel")
    finite_sound(Sound(samples, sound.rate), where)
    if np.abs(samples).max() > 1 or not isinstance(sound.rate, Integral) or not 0 < sound.rate <= FASTEST:
        got = f"largest {np.abs(samples).max():g}, rate {brief(sound.rate)}"
        raise MediaError("the samples are not a sound", where=where, got=got, expected=f"[-1, 1], 1 to {FASTEST} Hz")
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(4)
        written.setframerate(int(sound.rate))
        written.writeframes(np.minimum(np.rint(samples.astype(np.float64) * 2**31), 2**31 - 1).astype("<i4").tobytes())
    return file.getvalue()


@contextmanager
def _wave(data: bytes) -> Iterator[wave.Wave_read | None]:
    """The file as the standard library's `wave` reads it; None for other formats and encodings than plain PCM."""
    if not _is_plain_wave(data):
        yield None
        return
    with wave.open(io.BytesIO(data), "rb") as file:
        yield file


def _is_plain_wave(data: bytes) -> bool:
    if format_of(data) != "WAV":
        return False
    try:
        with wave.open(io.BytesIO(data), "rb"):
            return True
    except wave.Error as error:
        if "unknown" in str(error):  # an encoding that soundfile may read
            return False
        raise


def _check_wave(facts: Any, length: int, limits: MediaConfig, where: str) -> None:
    stated = facts.nframes * facts.nchannels * facts.sampwidth
    if stated > length:
        got = f"a header that states {stated:,} bytes, in a file of {length:,}"
        raise MediaError("the file is shorter than its header says", where=where, got=got)
    if not 1 <= facts.sampwidth <= 4:
        raise MediaError("the sound's samples have an unknown width", where=where, got=f"{facts.sampwidth} bytes")
    _check_length(facts.nframes, facts.framerate, facts.nchannels, limits, where)


def _check_length(frames: int, rate: int, channels: int, limits: MediaConfig, where: str) -> None:
    if not 0 < rate <= FASTEST or not 0 < channels <= _WIDEST:
        got, expected = f"{rate:,} Hz, {channels} channels", f"1 to {FASTEST:,} Hz, 1 to {_WIDEST} channels"
        raise MediaError("the sound's rate or channels cannot be used", where=where, got=got, expected=expected)
    if frames > limits.max_seconds * rate:
        got, expected = f"{frames / rate:,.1f} s or more", f"at most {limits.max_seconds:,g} s"
        do = "cut it, or raise media.max_seconds"
        raise MediaError("the sound is too long", where=where, got=got, expected=expected, do=do)


def _from_wave(file: wave.Wave_read, where: str) -> Sound:
    facts = file.getparams()
    raw = file.readframes(facts.nframes)
    width, stated = facts.sampwidth, facts.nframes * facts.nchannels * facts.sampwidth
    if len(raw) < stated:
        got = f"{len(raw):,} of {stated:,} bytes"
        raise MediaError("the file is shorter than its header says", where=where, got=got)
    if width == 1:
        integers = np.frombuffer(raw, np.uint8).astype(np.int16) - 128
    elif width == 3:
        padded = np.zeros((len(raw) // 3, 4), np.uint8)
        padded[:, 1:] = np.frombuffer(raw, np.uint8).reshape(-1, 3)
        integers = padded.view("<i4").ravel() >> 8
    else:
        integers = np.frombuffer(raw, f"<i{width}")
    samples = integers.astype(np.float32) / np.float32(2 ** (8 * width - 1))
    return Sound(_mono(samples.reshape(-1, facts.nchannels)), facts.framerate)


def _mono(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean of the channels: `[n, channels]` to `[n]`."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def _from_soundfile(data: bytes, limits: MediaConfig, where: str) -> Sound:
    try:
        import soundfile
    except ImportError as error:
        what, do = f"this {format_of(data)} file needs soundfile", 'pip install "diptych[sound]"'
        raise MediaError(what, where=where, do=do) from error
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        _check_length(0, file.samplerate, file.channels, limits, where)
        blocks: list[NDArray[np.float32]] = []
        read = 0
        while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
            read += len(block)  # counted, as headers of compressed files may say anything
            _check_length(read, file.samplerate, file.channels, limits, where)
            blocks.append(_mono(block))
        return Sound(np.concatenate(blocks or [np.zeros(0, np.float32)]), file.samplerate)


def array_of(data: bytes, where: str) -> NDArray[Any]:
    """The array of an .npy file, without a copy; no pickles, and no more than the bytes hold."""
    file = io.BytesIO(data)
    with decoding("array", where):
        version = np.lib.format.read_magic(file)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    if dtype.hasobject or dtype.kind not in "iuf":
        got = "Python objects" if dtype.hasobject else str(dtype)
        raise MediaError("the array does not hold numbers", where=where, got=got, expected="integers or floats")
    count, start = math.prod(shape), file.tell()
    if min(shape, default=0) < 0 or count * dtype.itemsize > len(data) - start:
        got, expected = f"{len(data) - start:,} bytes", f"{list(shape)} of {dtype}"
        raise MediaError("the array is shorter than its header says", where=where, got=got, expected=expected)
    return np.frombuffer(data, dtype, count, start).reshape(shape, order="F" if fortran else "C")
