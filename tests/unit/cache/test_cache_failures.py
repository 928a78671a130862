"""A cache that fails is a warning, said once; what is encoded through it comes out all the same."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import stat
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import portalocker
import pytest

from diptych.config.models import CacheConfig
from diptych.slots import cache_table as table
from diptych.slots.cache import EmbeddingCache, Namespace
from diptych.slots.encode import Vector

MakeNamespace = Callable[..., Namespace]
TEXTS = [f"text {n}" for n in range(300)]


def ones(inputs: Sequence[str]) -> list[Vector]:
    return [np.ones(1000, np.float32) for _ in inputs]


@pytest.fixture
def filled(cache: EmbeddingCache, namespace: MakeNamespace) -> EmbeddingCache:
    namespace(cache).encode(TEXTS, ones)
    cache.close()
    return cache


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "BUSY", 0.1)


def goes_on_without(cache: EmbeddingCache, space: Namespace) -> list[str]:
    """Encode twice; the warnings of the first time, after which there must be no more."""
    found = space.encode(TEXTS, ones)
    assert len(found) == 300
    taken = cache.take_warnings()
    assert len(space.encode(TEXTS, ones)) == 300
    assert space.hits == 0
    assert cache.take_warnings() == []
    return taken


def overwrite(path: Path, at: int, count: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(os.urandom(count))


def test_a_folder_that_cannot_be_made(tmp_path: Path, namespace: MakeNamespace) -> None:
    (tmp_path / "file").write_text("no folder")
    cache = EmbeddingCache(tmp_path / "file" / "cache", limit=16_000_000)
    (warning,) = goes_on_without(cache, namespace(cache))
    assert warning.startswith("the embedding cache was left out: ")
    assert "file" in warning


def test_a_file_or_folder_that_is_locked_for_too_long(
    filled: EmbeddingCache, namespace: MakeNamespace, impatient: None
) -> None:
    with portalocker.Lock(filled.folder / "opening.lock"):
        (warning,) = goes_on_without(filled, namespace(filled, space="another"))
    assert "another process keeps the embedding cache locked" in warning
    filled = EmbeddingCache(filled.folder, limit=16_000_000)
    space = namespace(filled, space="another")
    with closing(sqlite3.connect(filled.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        (warning,) = goes_on_without(filled, space)
    assert "database is locked" in warning


def test_a_full_disk(cache: EmbeddingCache, namespace: MakeNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def small(path: Path) -> sqlite3.Connection:
        base = connected(path)
        base.execute("PRAGMA max_page_count=40").fetchall()  # SQLite's own way to play a full disk
        return base

    connected = table._connect
    monkeypatch.setattr(table, "_connect", small)
    (warning,) = goes_on_without(cache, namespace(cache))
    assert "database or disk is full" in warning


def test_a_database_of_another_program_is_left_alone(folder: Path, namespace: MakeNamespace) -> None:
    folder.mkdir()
    with closing(sqlite3.connect(folder / table.FILE)) as other:
        other.execute("CREATE TABLE entries (name TEXT)")
    before = (folder / table.FILE).read_bytes()
    cache = EmbeddingCache(folder, limit=16_000_000)
    (warning,) = goes_on_without(cache, namespace(cache))
    assert "a database of another program" in warning
    assert "DIPTYCH_CACHE" in warning
    assert (folder / table.FILE).read_bytes() == before


@pytest.mark.parametrize("damage", [b"", b"this is no database at all, but a letter to a friend. " * 400])
def test_a_file_that_is_no_database_is_set_aside_and_begun_anew(
    folder: Path, namespace: MakeNamespace, damage: bytes
) -> None:
    folder.mkdir()
    (folder / table.FILE).write_bytes(damage)
    with EmbeddingCache(folder, limit=16_000_000) as cache:
        space = namespace(cache)
        for _ in range(2):
            space.encode(TEXTS, ones)
        assert (space.hits, space.misses) == (300, 300)
        warnings = cache.take_warnings()
    aside = folder / f"{table.FILE}.damaged"
    assert len(warnings) == aside.exists() == bool(damage)
    if damage:
        assert "was damaged and is replaced" in warnings[0]
        assert aside.read_bytes() == damage


DAMAGES = int(os.environ.get("DIPTYCH_CACHE_DAMAGES", "60"))  # 2,000 where somebody has a minute


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The file after one of the accidents that befall files: bits, bytes, blanks, exchanged pages, a lost end."""
    found = bytearray(content)
    page = table.PAGE * rng.randrange(len(found) // table.PAGE)
    kind = rng.choice(["bits", "head", "page", "blank", "exchange", "cut"])
    ranges = {"bits": (0, len(found), 200), "head": (0, 2000, 4), "page": (page, page + table.PAGE, 6)}
    first, last, most = ranges.get(kind, (0, 1, 0))
    for _ in range(rng.randint(min(1, most), most)):
        found[rng.randrange(first, last)] = rng.randrange(256)
    if kind == "blank":
        found[page : page + table.PAGE] = bytes(table.PAGE)
    if kind == "exchange":
        other = table.PAGE * rng.randrange(len(found) // table.PAGE)
        one, two = bytes(found[page : page + table.PAGE]), bytes(found[other : other + table.PAGE])
        found[page : page + table.PAGE], found[other : other + table.PAGE] = two, one
    return bytes(found[: rng.randrange(len(found))] if kind == "cut" else found)


def test_no_damage_costs_a_document_or_gives_a_wrong_vector(filled: EmbeddingCache, namespace: MakeNamespace) -> None:
    """The values, names and head of a database are as exposed as its pages: what comes of them are any errors."""
    whole, rng = filled.path.read_bytes(), random.Random(7)
    kept = 0
    for number in range(DAMAGES):
        folder = filled.folder.parent / f"damaged {number}"
        folder.mkdir()
        (folder / table.FILE).write_bytes(damaged(whole, rng))
        for _ in range(3):
            with EmbeddingCache(folder, limit=16_000_000) as cache:
                space = namespace(cache)
                found = space.encode(TEXTS, ones)
                assert all(np.array_equal(np.asarray(vector), np.ones(1000)) for vector in found), number
        kept += space.hits == len(TEXTS)
        shutil.rmtree(folder)
    assert kept >= 0.95 * DAMAGES, "a damaged file is replaced, so that it is of use again"


def test_a_damaged_file_that_somebody_has_open_is_left_until_nobody_has(
    filled: EmbeddingCache, namespace: MakeNamespace
) -> None:
    with EmbeddingCache(filled.folder, limit=16_000_000) as user:
        namespace(user).encode(TEXTS[:1], ones)
        overwrite(filled.path, 0, 3000)
        (warning,) = goes_on_without(filled, namespace(filled, space="another"))
        assert "another process has it open" in warning
    with EmbeddingCache(filled.folder, limit=16_000_000) as later:
        namespace(later).encode(TEXTS, ones)
        assert "was damaged and is replaced" in later.take_warnings()[0]


def test_a_vector_whose_bytes_went_wrong_is_encoded_and_kept_anew(
    filled: EmbeddingCache, namespace: MakeNamespace
) -> None:
    with closing(sqlite3.connect(filled.path)) as base, base:
        base.execute("UPDATE vectors SET packed = zeroblob(4009) WHERE id % 3 = 0")
        base.execute("UPDATE vectors SET packed = (SELECT packed FROM vectors WHERE id = 1) WHERE id = 2")
    space = namespace(filled)
    for _ in range(2):
        assert all(np.array_equal(np.asarray(vector), np.ones(1000)) for vector in space.encode(TEXTS, ones))
    assert (space.hits, space.misses) == (199 + 300, 101)


def test_a_folder_that_vanishes_while_it_is_used_does_not_matter(
    cache: EmbeddingCache, namespace: MakeNamespace
) -> None:
    space = namespace(cache)
    space.encode(TEXTS[:10], ones)
    shutil.rmtree(cache.folder)
    assert len(space.encode(TEXTS, ones)) == 300
    cache.close()
    assert len(space.encode(TEXTS, ones)) == 300


def test_a_file_of_earlier_releases_is_read_and_written_even_while_one_of_them_has_it_open(
    filled: EmbeddingCache, namespace: MakeNamespace
) -> None:
    with closing(sqlite3.connect(filled.path, isolation_level=None)) as other:
        assert other.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
        other.execute("SELECT count(*) FROM entries").fetchone()
        space = namespace(filled)
        assert len(space.encode([*TEXTS, "another"], ones)) == 301
        assert (space.hits, space.misses, filled.take_warnings()) == (300, 1, [])
        filled.close()
    assert len(space.encode(TEXTS, ones)) == 300
    assert (space.hits, filled.take_warnings()) == (600, [])


def test_folder_and_files_are_the_users_alone(filled: EmbeddingCache, namespace: MakeNamespace) -> None:
    namespace(filled).encode(TEXTS, ones)
    assert stat.S_IMODE(filled.folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in filled.folder.glob("*sqlite*")}
    assert modes == dict.fromkeys(modes, 0o600)
    assert len(modes) == 2


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DIPTYCH_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("SOMEWHERE", str(tmp_path / "some where"))
    return tmp_path


@pytest.mark.parametrize(
    ("variable", "config", "where"),
    [
        (None, {}, "*diptych"),
        (None, {"path": "~/mine"}, "mine"),
        (None, {"path": "${SOMEWHERE}"}, "some where"),
        ("~/other", {"path": "~/mine"}, "other"),
        ("off", {"path": "~/mine"}, None),
        ("OFF", {}, None),
        ("~/other", {"enabled": False}, None),
        (None, {"size": "2GB"}, "*diptych 2000000000"),
        (None, {"size": "1.5 GiB"}, "*diptych 1610612736"),
        (None, {"size": 16_000_000}, "*diptych 16000000"),
    ],
)
def test_where_it_lies_and_how_large_it_gets(
    home: Path, monkeypatch: pytest.MonkeyPatch, variable: str, config: object, where: str
) -> None:
    if variable:
        monkeypatch.setenv("DIPTYCH_CACHE", variable)
    found = EmbeddingCache.open(CacheConfig.model_validate(config))
    if where is None:
        assert found is None
    else:
        assert found is not None
        assert found.folder.is_relative_to(home)
        place, _, limit = where.rpartition(" ") if "0" in where else (where, "", "1000000000")
        assert found.folder.match(place)
        assert found.limit == int(limit)
