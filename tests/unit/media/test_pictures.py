"""Pictures and clips: each kind that is bad is refused by name, and each that is unusual has the right pixels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from diptych.errors import MediaError
from diptych.media import MediaConfig, MediaStore

RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)
QUARTERS = np.array([[RED, GREEN], [BLUE, BLACK]], np.uint8)


def store(**limits: Any) -> MediaStore:
    return MediaStore(MediaConfig(**limits), Path("/nowhere"))


def written(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes | NDArray[Any], modality: str = "image", **limits: Any) -> NDArray[Any]:
    media = store(**limits)
    content = media.content(media.take(modality, data))
    assert isinstance(content, np.ndarray)
    assert content.dtype == np.uint8
    assert content.flags.writeable
    assert content.flags.c_contiguous
    return content


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_that_states(width: int, height: int) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP"])
def test_a_plain_picture_has_its_pixels(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    assert (decoded(written(Image.fromarray(QUARTERS), kind, **options)) == QUARTERS).all()


def test_a_jpeg_has_about_its_pixels() -> None:
    red = Image.new("RGB", (16, 16), RED)
    assert np.abs(decoded(written(red, "JPEG")).astype(int) - RED).max() <= 2


def test_a_picture_of_one_pixel_is_a_picture() -> None:
    assert decoded(written(Image.new("RGB", (1, 1), BLUE))).tolist() == [[list(BLUE)]]


def test_a_truncated_png_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    data = written(Image.fromarray(noise))
    media = store()
    item = media.take("image", data[: len(data) // 2])
    with pytest.raises(MediaError, match="the picture cannot be decoded") as caught:
        media.content(item)
    assert caught.value.media == item


def test_a_decompression_bomb_is_refused_by_its_header() -> None:
    data = png_that_states(30_000, 30_000)
    assert len(data) < 200
    with pytest.raises(MediaError, match="too many pixels"):
        store().take("image", data)


def test_the_limit_of_pixels_is_the_configs_whatever_pillows_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    data = written(Image.new("RGB", (20, 10)))
    assert decoded(data, max_pixels=200).shape == (10, 20, 3)
    with pytest.raises(MediaError, match=r"20 x 10 pixels\n  expected: at most 199\n  do: .*media.max_pixels"):
        store(max_pixels=199).take("image", data)


def test_a_png_without_pixels_is_refused() -> None:
    with pytest.raises(MediaError, match=r"no pixels|cannot be decoded|cannot read this picture"):
        decoded(png_that_states(0, 5))


@pytest.mark.parametrize(
    ("data", "got"),
    [(b"just words\n", "text"), (b"RIFF\x10\0\0\0WAVEfmt ", "WAV"), (b"%PDF-1.7", "PDF"), (b"\0\1\2", "unknown")],
)
def test_what_is_no_picture_is_refused_with_what_it_is(data: bytes, got: str) -> None:
    with pytest.raises(MediaError, match=f"diptych cannot read this picture[^$]*got: {got} bytes"):
        store().take("image", data)


def test_a_format_that_is_not_listed_is_refused() -> None:
    with pytest.raises(MediaError, match="diptych cannot read this picture"):
        store().take("image", written(Image.fromarray(QUARTERS), "PPM"))


def test_of_an_animated_gif_the_picture_is_the_first_frame_and_the_clip_is_all() -> None:
    frames = [Image.new("RGB", (4, 3), color) for color in (RED, GREEN, BLUE)]
    data = written(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    assert (decoded(data) == RED).all()
    clip = decoded(data, "video")
    assert clip.shape == (3, 3, 4, 3)
    assert clip[:, 0, 0].tolist() == [list(RED), list(GREEN), list(BLUE)]


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animated_png_and_webp_are_clips(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, BLUE)]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = written(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
    assert decoded(data, "video")[:, 0, 0].tolist() == [list(RED), list(BLUE)]


def test_a_default_image_of_an_animated_png_is_no_frame_of_its_clip() -> None:
    frames = [Image.new("RGB", (2, 2), color) for color in (WHITE, RED, BLUE)]
    data = written(frames[0], "PNG", save_all=True, append_images=frames[1:], default_image=True)
    assert decoded(data, "video")[:, 0, 0].tolist() == [list(RED), list(BLUE)]


def test_a_still_is_a_clip_of_one_frame() -> None:
    assert decoded(written(Image.fromarray(QUARTERS)), "video").shape == (1, 2, 2, 3)


def test_a_gif_without_frames_is_refused() -> None:
    data = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0, 0, 0) + b";"
    for modality in ("image", "video"):
        with pytest.raises(MediaError, match=r"cannot be decoded|has no frames|cannot read this (picture|clip)"):
            decoded(data, modality)


def test_an_array_of_no_frames_is_refused() -> None:
    with pytest.raises(MediaError, match="the clip has no frames"):
        store().take("video", np.zeros((0, 4, 4, 3), np.uint8))


def test_a_clip_with_too_many_frames_or_pixels_is_refused() -> None:
    frames = [Image.new("RGB", (4, 4), (20 * n, 0, 0)) for n in range(8)]
    data = written(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="too many frames"):
        decoded(data, "video", max_frames=7)
    with pytest.raises(MediaError, match="the frames of a clip have too many pixels"):
        decoded(data, "video", max_pixels=16)
    assert len(decoded(data, "video", max_frames=8, max_pixels=26)) == 8


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    assert (decoded(written(cmyk, "TIFF")) == RED).all()
    assert np.abs(decoded(written(cmyk, "JPEG")).astype(int) - RED).max() <= 2


def test_grey_of_sixteen_bits_is_scaled() -> None:
    grey = np.array([[0, 257 * 100], [65535, 128]], np.uint16)
    assert decoded(written(Image.fromarray(grey)))[..., 0].tolist() == [[0, 100], [255, 0]]
    assert decoded(written(Image.fromarray(grey), "TIFF"))[..., 2].tolist() == [[0, 100], [255, 0]]


def test_colours_of_sixteen_bits_are_scaled() -> None:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    row = b"\0" + struct.pack(">6H", 65535, 0, 257 * 7, 0, 65535, 257 * 200)
    data = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert decoded(data).tolist() == [[[255, 0, 7], [0, 255, 200]]]


def test_values_without_a_known_range_are_refused() -> None:
    with pytest.raises(MediaError, match="range of the image's values is unknown"):
        decoded(written(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_a_picture_stands_as_its_exif_says(kind: str) -> None:
    upright = np.zeros((48, 32, 3), np.uint8)
    upright[:16] = WHITE  # a white bar at the top
    for orientation, lying in ((6, np.rot90(upright)), (8, np.rot90(upright, -1)), (3, np.rot90(upright, 2))):
        picture, exif = Image.fromarray(np.ascontiguousarray(lying)), Image.Exif()
        exif[0x0112] = orientation
        found = decoded(written(picture, kind, exif=exif))
        assert found.shape == upright.shape
        assert found[:14].min() > 240
        assert found[18:].max() < 15


def test_damaged_exif_turns_nothing() -> None:
    data = written(Image.fromarray(QUARTERS), exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert (decoded(data) == QUARTERS).all()


def test_transparent_pixels_are_white() -> None:
    rgba = np.array([[[0, 0, 0, 0], [255, 0, 0, 255], [0, 0, 0, 51]]], np.uint8)
    expected = [[list(WHITE), list(RED), [204, 204, 204]]]
    assert decoded(written(Image.fromarray(rgba))).tolist() == expected
    assert decoded(rgba).tolist() == expected


def test_grey_with_alpha_and_a_transparent_grey_are_white() -> None:
    grey = np.array([[[0, 0], [90, 255]]], np.uint8)
    assert decoded(written(Image.fromarray(grey, "LA")))[0, :, 0].tolist() == [255, 90]
    assert decoded(written(Image.fromarray(grey[..., 0]), transparency=0))[0, :, 0].tolist() == [255, 90]


def test_a_palette_becomes_its_colours_and_its_transparent_one_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *BLUE])
    palette.putdata([0, 1])
    assert decoded(written(palette)).tolist() == [[list(RED), list(BLUE)]]
    assert decoded(written(palette, transparency=1)).tolist() == [[list(RED), list(WHITE)]]


def test_black_and_white_becomes_grey_levels() -> None:
    assert decoded(written(Image.fromarray(np.array([[True, False]])))).tolist() == [[list(WHITE), list(BLACK)]]


def test_an_array_is_a_picture_in_bytes_grey_or_sixteen_bits() -> None:
    assert (decoded(QUARTERS) == QUARTERS).all()
    assert (decoded(QUARTERS[..., 0]) == QUARTERS[..., :1]).all()
    assert (decoded(QUARTERS.astype(np.uint16) * 257) == QUARTERS).all()
    assert (decoded(np.asfortranarray(QUARTERS)) == QUARTERS).all()


@pytest.mark.parametrize(
    "array", [QUARTERS / 255, QUARTERS.transpose(2, 0, 1), QUARTERS[0, 0], np.array([None]), QUARTERS.astype(int)]
)
def test_an_array_that_is_no_picture_is_refused(array: NDArray[Any]) -> None:
    with pytest.raises(MediaError, match=r"the array is not a picture|does not hold numbers|no pixels"):
        store().take("image", array)


def test_a_clip_in_a_container_needs_its_decoder_or_is_refused_as_damaged() -> None:
    data = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom"
    with pytest.raises(MediaError, match=r"diptych\[video\]|the clip cannot be decoded|has no frames"):
        decoded(data, "video")


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


@pytest.mark.parametrize(
    "whole",
    [
        box(b"ftyp", b"isom") + box(b"moov", bytes(50)) + box(b"mdat", bytes(90)),
        box(b"ftyp", b"isom") + struct.pack(">I4sQ", 1, b"mdat", 96) + bytes(80),
        b"\x1aE\xdf\xa3\x80" + b"\x18\x53\x80\x67" + b"\xd0" + bytes(80),
        b"\x1aE\xdf\xa3\x80" + b"\x18\x53\x80\x67" + struct.pack(">Q", 80 | 1 << 56) + bytes(80),
    ],
)
def test_a_clip_of_which_a_part_is_missing_is_refused_by_its_headers(whole: bytes) -> None:
    assert store().take("video", whole).bytes == len(whole)
    with pytest.raises(MediaError, match="shorter than its header says"):
        store().take("video", whole[:-40])


def test_a_gif_that_ends_between_two_frames_is_refused_as_a_clip() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in (RED, GREEN)]
    data = written(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(MediaError, match="shorter than its header says"):
        store().take("video", data[:-1])
    assert len(decoded(data + bytes(3), "video")) == 2


@pytest.mark.parametrize("size", [(400, 100), (20, 10)])
def test_a_thumbnail_is_small_and_keeps_the_shape(size: tuple[int, int]) -> None:
    import base64

    media = store(store="thumbnail")
    for modality in ("image", "video"):
        payload = media.to_payload(media.take(modality, written(Image.new("RGB", size, BLUE))))
        small = Image.open(io.BytesIO(base64.b64decode(payload["thumbnail"])))
        assert small.format in ("JPEG", "PNG")
        assert small.size == ((96, 24) if size[0] == 400 else size)
        assert "data" not in payload
