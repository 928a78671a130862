"""The cache of converted models: a folder for each, written so that a folder that is visible is complete."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import platformdirs

MOST = 4 * 2**30  # bytes kept for each backend; the least recently used models are deleted


def cache_folder(backend: str, *facts: object) -> Path:
    """The folder of a converted model; `facts` tell models, parts and library versions apart."""
    digest = hashlib.sha256("\n".join(map(str, facts)).encode()).hexdigest()[:24]
    return Path(platformdirs.user_cache_path("diptych", appauthor=False)) / backend / digest


def cached_file(folder: Path, name: str) -> Path | None:
    """The file of a converted model, None if it is not cached; marks it as used now."""
    file = folder / name
    if not file.is_file():
        return None
    with contextlib.suppress(OSError):
        os.utime(folder)
    return file


def store(folder: Path, write: Callable[[Path], tuple[str, ...]]) -> None:
    """Let `write` fill a temporary folder, then move its files into place in the order that it returns.

    The last file marks the folder as complete. A failure to store is a warning, not an error.
    """
    staging = folder / f"{os.getpid()}-{threading.get_ident()}"
    try:
        staging.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in write(staging):
            (staging / name).replace(folder / name)
        staging.rmdir()
        _evict(folder.parent)
    except (OSError, RuntimeError) as error:
        warnings.warn(f"the converted model is not kept in {folder}: {error}", stacklevel=2)


def _evict(parent: Path) -> None:
    """Delete the least recently used folders beyond `MOST` bytes; readers have their files open, so none fails."""
    sizes: list[tuple[float, int, Path]] = []
    for folder in parent.iterdir():
        with contextlib.suppress(OSError):  # another process may remove it, too
            files = [file.stat().st_size for file in folder.iterdir() if file.is_file()]
            sizes.append((folder.stat().st_mtime, sum(files), folder))
    total = 0
    for _, size, folder in sorted(sizes, reverse=True):
        total += size
        if total > MOST:
            shutil.rmtree(folder, ignore_errors=True)


def recalled(what: str, key: str) -> str | None:
    """The text stored under a key, None if there is none."""
    try:
        return (cache_folder(what, key) / "word").read_text("utf-8")
    except (OSError, ValueError):
        return None


def remember(what: str, key: str, word: str) -> None:
    """Store a text under a key in the user's cache."""

    def write(path: Path) -> tuple[str, ...]:
        (path / "word").write_text(word, "utf-8")
        return ("word",)

    store(cache_folder(what, key), write)
