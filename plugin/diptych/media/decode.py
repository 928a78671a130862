"""Decodes pictures, clips and sounds, by Pillow, PyAV and soundfile: `pip install "diptych[image,video,sound]"`.

Sizes are read from the header and checked before anything is decoded. Only common formats are tried, so a file cannot
select a rare decoder, and a clip cannot refer to other files. Plain WAV files need the standard library alone.
"""

from __future__ import annotations

import io
import math
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from numbers import Integral
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from diptych.errors import MediaError, brief
from diptych.media.read import format_of, stated_length
from diptych.media.values import Content, MediaConfig, Modality, Sound

Pixels = NDArray[np.uint8]
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
ANIMATED = ("GIF", "PNG", "WEBP")
CONTAINERS = {"MP4": "mp4", "WebM": "matroska"}  # libav's names; no playlists, which refer to other files
SOUNDS = ("WAV", "FLAC", "Ogg", "MP3", "AIFF")
CLIP = 5  # times the pixels of a picture
THUMBNAIL = 96  # pixels of the longer side
FASTEST = 768_000  # samples per second
_WIDEST = 64  # channels
_BLOCK = 1 << 18
_ORIENTATION = 0x0112
_PART = 1 << 20  # values that are converted at once
_TURNS = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # EXIF's numbers, and Pillow's for the same


def check_image(data: bytes, limits: MediaConfig, where: str) -> None:
    """Raise MediaError where the header is not a picture's, or states too many pixels."""
    if format_of(data) == "npy":
        _rgb_array(array_of(data, where), where, limits)
        return
    with _opened(data, limits, where, FORMATS, "picture"):
        pass


def decode_image(data: bytes, limits: MediaConfig, where: str) -> Pixels:
    """The picture as uint8 `[height, width, 3]`: rotated by its EXIF data, on white; the first frame of several."""
    if format_of(data) == "npy":
        return _rgb_array(array_of(data, where), where, limits)
    with _opened(data, limits, where, FORMATS, "picture") as picture:
        return _rgb(_upright(picture), where)


def check_video(data: bytes, limits: MediaConfig, where: str) -> None:
    """Raise MediaError where the header is not a clip's, or states too many pixels."""
    found = format_of(data)
    check_complete(data, where)
    if found == "npy":
        _clip_array(array_of(data, where), where, limits)
    elif found not in CONTAINERS:
        with _opened(data, limits, where, ANIMATED, "clip"):
            pass


def decode_video(data: bytes, limits: MediaConfig, where: str) -> Pixels:
    """The clip as uint8 `[frames, height, width, 3]`, all its frames."""
    found = format_of(data)
    if found == "npy":
        return _clip_array(array_of(data, where), where, limits)
    frames: list[Pixels] = []
    for frame in _contained(data, limits, where) if found in CONTAINERS else _animated(data, limits, where):
        if frames and frame.shape != frames[0].shape:
            sizes = f"{frames[0].shape[:2]} and {frame.shape[:2]}"
            raise MediaError("the frames of a clip differ in size", where=where, got=sizes)
        frames.append(frame)
        _check_clip(len(frames), frame.shape, limits, where)
    if not frames:
        raise MediaError("the clip has no frames", where=where, expected="at least 1")
    return np.stack(frames)


def thumbnail(content: Any, where: str) -> bytes:
    """A small JPEG or PNG, whichever is smaller, of a picture or a clip's first frame; at most 96 pixels a side."""
    image = _pillow(where).fromarray(content if content.ndim == 3 else content[0])
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    written = []
    for kind, options in (("JPEG", {"quality": 80}), ("PNG", {"optimize": True})):
        file = io.BytesIO()
        image.save(file, kind, **options)
        written.append(file.getvalue())
    return min(written, key=len)


def _pillow(where: str) -> Any:
    try:
        from PIL import Image
    except ImportError as error:
        raise MediaError("pictures need Pillow", where=where, do='pip install "diptych[image]"') from error
    return Image


@contextmanager
def _opened(data: bytes, limits: MediaConfig, where: str, formats: tuple[str, ...], kind: str) -> Iterator[Any]:
    """A Pillow image whose header was read and checked. Whatever it raises becomes a MediaError."""
    pillow = _pillow(where)
    try:
        picture = pillow.open(io.BytesIO(data), formats=formats)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise _too_many_pixels(str(error), limits, where) from error
    except pillow.UnidentifiedImageError as error:
        what, expected = f"diptych cannot read this {kind}", ", ".join(formats)
        do = "convert it, or give it under its own modality"
        raise MediaError(what, where=where, got=f"{format_of(data)} bytes", expected=expected, do=do) from error
    except Exception as error:
        raise undecodable(kind, error, where) from error
    with decoding(kind, where), picture:
        _check_pixels(picture.size, limits, where)
        yield picture


def _check_pixels(size: tuple[int, int], limits: MediaConfig, where: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise MediaError("the picture has no pixels", where=where, got=f"{width} x {height}")
    if width * height > limits.max_pixels:
        raise _too_many_pixels(f"{width:,} x {height:,} pixels", limits, where)


def _too_many_pixels(got: str, limits: MediaConfig, where: str) -> MediaError:
    expected, do = f"at most {limits.max_pixels:,}", "make it smaller, or raise media.max_pixels"
    return MediaError("the picture has too many pixels", where=where, got=got, expected=expected, do=do)


def _check_clip(frames: int, shape: tuple[int, ...], limits: MediaConfig, where: str) -> None:
    pixels, most = frames * shape[0] * shape[1], CLIP * limits.max_pixels
    if frames > limits.max_frames:
        expected, do = f"at most {limits.max_frames:,}", "cut it, or raise media.max_frames"
        raise MediaError(
            "the clip has too many frames", where=where, got=f"{frames:,} or more", expected=expected, do=do
        )
    if pixels > most:
        got, expected = f"{pixels:,} or more", f"at most {most:,}, {CLIP} times media.max_pixels"
        do = "cut it, make it smaller, or raise media.max_pixels"
        raise MediaError("the frames of a clip have too many pixels", where=where, got=got, expected=expected, do=do)


def _upright(picture: Any) -> Any:
    """The decoded picture, rotated by its EXIF data; EXIF that cannot be read is ignored."""
    picture.load()
    try:
        orientation = picture.getexif().get(_ORIENTATION, 1)
    except Exception:  # Pillow raises several classes for damaged EXIF
        return picture
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def _rgb(picture: Any, where: str) -> Pixels:
    """The pixels as uint8 `[height, width, 3]`; 16-bit grey is scaled, transparent pixels are white."""
    mode = picture.mode
    if mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.uint16)
        if isinstance(clear := picture.info.get("transparency"), int):
            grey = np.where(grey == clear, np.uint16(65535), grey)
        return np.repeat(_eight_bits(grey[:, :, None]), 3, axis=2)
    if mode in ("I", "F"):
        got, do = f"mode {mode!r}, 32 bits a pixel", "scale it to 8 bits"
        raise MediaError(
            "the range of the image's values is unknown", where=where, got=got, expected="8 or 16 bits", do=do
        )
    if not picture.has_transparency_data:
        return np.array(picture if mode == "RGB" else picture.convert("RGB"))
    return _on_white(np.asarray(picture.convert("RGBA")))


def _eight_bits(values: NDArray[np.uint16]) -> Pixels:
    """16-bit values to 8 bits, rounded: 65535 becomes 255."""
    scaled = np.empty(values.shape, np.uint8)
    for part in _parts(values):
        scaled[part] = (values[part].astype(np.uint32) * 255 + 32767) // 65535
    return scaled


def _on_white(rgba: Pixels) -> Pixels:
    """`[..., 4]` blended on white, rounded."""
    blended = np.empty((*rgba.shape[:-1], 3), np.uint8)
    for part in _parts(rgba):
        alpha = rgba[part][..., 3:].astype(np.uint16)
        blended[part] = (rgba[part][..., :3] * alpha + 255 * (255 - alpha) + np.uint16(127)) // np.uint16(255)
    return blended


def _parts(pixels: NDArray[Any]) -> Iterator[slice]:
    """Parts of the rows, or frames, so that intermediate values of a large picture take little memory."""
    step = max(1, _PART * len(pixels) // max(pixels.size, 1))
    return (slice(at, at + step) for at in range(0, len(pixels), step))


def _rgb_array(array: NDArray[Any], where: str, limits: MediaConfig) -> Pixels:
    """An array that a user gave, as uint8 `[..., height, width, 3]`."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim < 3 or array.shape[-1] not in (1, 3, 4) or array.dtype not in (np.uint8, np.uint16):
        got, expected = f"{array.dtype} {list(array.shape)}", "uint8 or uint16 [height, width, 1, 3 or 4]"
        do = "multiply floats in [0, 1] by 255 and put the channels last"
        raise MediaError("the array is not a picture", where=where, got=got, expected=expected, do=do)
    _check_pixels((array.shape[-2], array.shape[-3]), limits, where)
    pixels: Pixels = array if array.dtype == np.uint8 else _eight_bits(array)
    if pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    return _on_white(pixels) if pixels.shape[-1] == 4 else np.array(pixels, order="C")


def _clip_array(array: NDArray[Any], where: str, limits: MediaConfig) -> Pixels:
    if array.ndim != 4:
        got, expected = f"{array.dtype} {list(array.shape)}", "uint8 [frames, height, width, 1, 3 or 4]"
        raise MediaError("the array is not a clip", where=where, got=got, expected=expected)
    if not len(array):
        raise MediaError("the clip has no frames", where=where, expected="at least 1")
    _check_clip(len(array), array.shape[1:], limits, where)
    return _rgb_array(array, where, limits)


def _animated(data: bytes, limits: MediaConfig, where: str) -> Iterator[Pixels]:
    """The frames of an animated GIF, PNG or WebP; a picture that is not animated is a clip of one frame."""
    with _opened(data, limits, where, ANIMATED, "clip") as clip:
        at = int(bool(clip.info.get("default_image")))  # of an animated PNG: shown where animations are not
        while True:
            try:
                clip.seek(at)
            except EOFError:
                return
            _check_pixels(clip.size, limits, where)
            yield _rgb(clip, where)
            at += 1


def _contained(data: bytes, limits: MediaConfig, where: str) -> Iterator[Pixels]:
    """The frames of the first video stream of an MP4 or WebM file."""
    try:
        import av
    except ImportError as error:
        what = f"clips in {format_of(data)} files need PyAV"
        raise MediaError(what, where=where, do='pip install "diptych[video]"') from error
    with decoding("clip", where), av.open(io.BytesIO(data), format=CONTAINERS[format_of(data)]) as container:
        for stream in container.streams.video[:1]:
            _check_pixels((stream.codec_context.width, stream.codec_context.height), limits, where)
            for frame in container.decode(stream):
                _check_pixels((frame.width, frame.height), limits, where)
                yield np.rot90(frame.to_ndarray(format="rgb24"), round(getattr(frame, "rotation", 0) / 90))


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
            if file is None:
                return
            facts = file.getparams()
            stated = facts.nframes * facts.nchannels * facts.sampwidth
            if stated > len(data):
                got = f"a header that states {stated:,} bytes, in a file of {len(data):,}"
                raise MediaError("the file is shorter than its header says", where=where, got=got)
            if not 1 <= facts.sampwidth <= 4:
                got = f"{facts.sampwidth} bytes"
                raise MediaError("the sound's samples have an unknown width", where=where, got=got)
            _check_length(facts.nframes, facts.framerate, facts.nchannels, limits, where)


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
    with ExitStack() as stack:
        file = None
        if format_of(data) == "WAV":
            try:
                file = stack.enter_context(wave.open(io.BytesIO(data), "rb"))
            except wave.Error as error:
                if "unknown" not in str(error):  # else an encoding that soundfile may read
                    raise
        yield file


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


_Check: TypeAlias = Callable[[bytes, MediaConfig, str], None]
_Decode: TypeAlias = Callable[[bytes, MediaConfig, str], Content]
DECODERS: Mapping[Modality, tuple[_Check, _Decode]] = {
    "image": (check_image, decode_image),
    "video": (check_video, decode_video),
    "sound": (check_sound, decode_sound),
}
"""By modality, what checks the header of a file and raises MediaError, and what decodes it."""
