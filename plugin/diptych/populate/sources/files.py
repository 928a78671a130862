"""Reads texts and media of folders and single files: a document a file, its relative path as id."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from diptych.errors import DocumentError
from diptych.media import Modality
from diptych.populate.rejects import Rejected, reason_of
from diptych.populate.sources import extract
from diptych.populate.sources.extract import parse_markdown
from diptych.populate.sources.readers import Raw, Row

TEXT_FILES = (".md", ".markdown", ".txt", *extract.KINDS)
VENDORED = "node_modules"
_PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_TABLES = (".npy", ".csv")
MEDIA_FILES: Mapping[Modality, tuple[str, ...]] = {
    "image": _PICTURES,
    "sound": (".wav", ".flac", ".ogg", ".oga", ".mp3", ".aif", ".aiff"),
    "video": (".mp4", ".m4v", ".mov", ".webm", ".mkv", ".gif", ".apng", ".png", ".webp"),
    "series": _TABLES,
    "points": _TABLES,
}
CAPTION = ".txt"  # beside cat.png, cat.txt holds its text


def read_media(folder: Path, modality: Modality) -> Iterator[Raw]:
    """The files of a modality under a folder, or a single one, each with the text of the .txt file of its name."""
    base = folder if folder.is_dir() else folder.parent
    for path in _files(folder, MEDIA_FILES[modality]):
        identifier = path.relative_to(base).as_posix()
        caption = path.with_suffix(CAPTION)
        try:
            text = caption.read_text("utf-8-sig") if caption.is_file() else ""
        except (UnicodeDecodeError, OSError) as error:
            yield Rejected(identifier, f"unreadable text in {caption.name}: {error}", id=identifier)
        else:
            media = {modality: os.path.abspath(path)}
            yield Row({"id": identifier, "text": text.strip(), "media": media}, identifier, has_media=True)


def count_media(folder: Path, modality: Modality) -> int:
    """Number of files that `read_media` reads."""
    return len(_files(folder, MEDIA_FILES[modality]))


def read_files(folder: Path) -> Iterator[Raw]:
    """Text, Markdown, PDF, HTML and DOCX files under a folder, or a single one; the relative path is the id."""
    base = folder if folder.is_dir() else folder.parent
    for path in _files(folder, TEXT_FILES):
        identifier = path.relative_to(base).as_posix()
        try:
            title, text = _title_and_text(path)
        except (UnicodeDecodeError, OSError) as error:
            yield Rejected(identifier, f"unreadable file: {error}", id=identifier)
        except DocumentError as error:
            yield Rejected(identifier, reason_of(error), id=identifier)
        else:
            yield {"id": identifier, "text": text, "title": title}


def _title_and_text(path: Path) -> tuple[str, str]:
    kind = path.suffix.lower()
    if kind in extract.KINDS:
        return extract.extract(path)
    text = path.read_text("utf-8-sig")
    return ("", text) if kind == ".txt" else parse_markdown(text)


def count_files(folder: Path) -> int:
    """Number of files that `read_files` reads."""
    return len(_files(folder, TEXT_FILES))


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    found = _below(folder) if folder.is_dir() else [folder]
    return sorted(path for path in found if path.suffix.lower() in suffixes and path.is_file())


def _below(folder: Path) -> Iterator[Path]:
    """The files under a folder, without hidden ones and those of installed packages."""
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != VENDORED]
        yield from (Path(place, name) for name in names if not name.startswith("."))
