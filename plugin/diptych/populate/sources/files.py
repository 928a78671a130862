"""Reads texts and media of folders and single files: a document a file, its relative path as id."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from diptych.errors import DocumentError
from diptych.media import Modality
from diptych.populate.rejects import Rejected, reason_of
from diptych.populate.sources.extract import KINDS, Extractor
from diptych.populate.sources.readers import Raw, Row
from diptych.runtime import text_budget

TEXT_FILES = (".md", ".markdown", ".txt", *KINDS)
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
_KEY = re.compile(r"[\w.-]+\s*:(\s|$)")
_TITLE = re.compile(r"title\s*:(.*)", re.IGNORECASE)
CAPTION = ".txt"  # beside cat.png, cat.txt holds its text


def read_media(folder: Path, modality: Modality) -> Iterator[Raw]:
    """The files of a modality under a folder, or a single one, each with the text of the .txt file of its name."""
    base = folder if folder.is_dir() else folder.parent
    for path in _files(folder, MEDIA_FILES[modality]):
        identifier = path.relative_to(base).as_posix()
        caption = path.with_suffix(CAPTION)
        try:
            text = _text_of(caption) if caption.is_file() else ""
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
    with Extractor() as extractor:
        for path in _files(folder, TEXT_FILES):
            identifier = path.relative_to(base).as_posix()
            try:
                title, text = _title_and_text(path, extractor)
            except (UnicodeDecodeError, OSError) as error:
                yield Rejected(identifier, f"unreadable file: {error}", id=identifier)
            except DocumentError as error:
                yield Rejected(identifier, reason_of(error), id=identifier)
            else:
                yield {"id": identifier, "text": text, "title": title}


def _title_and_text(path: Path, extractor: Extractor) -> tuple[str, str]:
    kind, size = path.suffix.lower(), path.stat().st_size
    if size > text_budget.FILE:
        raise DocumentError("the file is too large", got=f"{size:,} bytes", expected=f"{text_budget.FILE:,}")
    if kind in KINDS:
        return extractor.read(path)
    text = _text_of(path)
    return ("", text) if kind == ".txt" else parse_markdown(text)


def _text_of(path: Path) -> str:
    with path.open(encoding="utf-8-sig") as file:
        text = file.read(text_budget.TEXT + 1)
    if len(text) > text_budget.TEXT:
        raise DocumentError("the file has too much text", expected=f"at most {text_budget.TEXT:,} characters")
    return text


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


def parse_markdown(text: str) -> tuple[str, str]:
    """Title and text: the title is that of the front matter, or else the first heading outside of code blocks.

    The heading leaves the text when it is the title; another one stays.
    """
    matter, lines = _split(text.splitlines())
    at = _heading_at(lines)
    heading = "" if at is None else lines[at].strip("# \t")
    title = _title(matter) or heading
    if at is not None and heading.casefold() == title.casefold():
        del lines[at]
    return title, "\n".join(lines).strip() if matter or title else text


def _split(lines: list[str]) -> tuple[list[str], list[str]]:
    """The lines of the front matter, YAML between two `---`, and the rest; a lone rule `---` does not start one."""
    if not lines or lines[0].rstrip() != "---":
        return [], lines
    end = next((n for n, line in enumerate(lines[1:], 1) if line.rstrip() in ("---", "...")), 0)
    matter = lines[1:end]
    return (matter, lines[end + 1 :]) if matter and all(map(_is_yaml, matter)) else ([], lines)


def _is_yaml(line: str) -> bool:
    return not line.strip() or line[0] in " \t#-]}" or _KEY.match(line) is not None


def _title(matter: list[str]) -> str:
    found = next((match[1].strip() for line in matter if (match := _TITLE.match(line))), "")
    if found[:1] in ("'", '"') and found[-1:] == found[:1] and len(found) > 1:
        return found[1:-1].replace("''" if found[0] == "'" else '\\"', found[0]).strip()
    return "" if found[:1] in ("|", ">", "~") or found == "null" else found


def _heading_at(lines: list[str]) -> int | None:
    fenced = False
    for number, line in enumerate(lines):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and line.startswith("#") and line.lstrip("#").startswith(" ") and line.strip("# \t"):
            return number
    return None
