"""What is remembered of checks that passed, and when it no longer counts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import pytest

from diptych.runtime import passed_checks


@pytest.fixture(autouse=True)
def _memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(passed_checks.VARIABLE)


Rest: TypeAlias = Callable[[int], None]


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Rest:
    """Let this many nanoseconds pass, by the clock that tells how old a file is."""

    def until(nanoseconds: int) -> None:
        later = time.time_ns() + nanoseconds
        monkeypatch.setattr(passed_checks, "time", SimpleNamespace(time_ns=lambda: later))
        time.sleep(0.05)  # several ticks of the clock that stamps files

    return until


def written(folder: Path) -> list[Path]:
    files = [folder / "a", folder / "b"]
    for file in files:
        file.write_bytes(b"12345")
    return files


def test_a_result_is_recalled_in_the_same_state_alone() -> None:
    passed_checks.remember("some", "subject", [1, "a"], {"value": 0.5})
    assert passed_checks.recalled("some", "subject", [1, "a"]) == {"value": 0.5}
    assert passed_checks.recalled("some", "subject", [2, "a"]) is None
    assert passed_checks.recalled("some", "another", [1, "a"]) is None
    assert passed_checks.recalled("other", "subject", [1, "a"]) is None


def test_nothing_is_remembered_with_the_cache_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    passed_checks.remember("some", "subject", 1, "kept")
    monkeypatch.setenv(passed_checks.VARIABLE, "off")
    assert passed_checks.recalled("some", "subject", 1) is None
    passed_checks.remember("some", "another", 1, "not kept")
    assert len([*tmp_path.rglob("*.json")]) == 1


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"state": 1}', b"\xff\xfe", b'{"state": "x", "value": 1}'])
def test_a_damaged_memory_is_no_memory(damage: bytes, tmp_path: Path) -> None:
    passed_checks.remember("some", "subject", 1, "kept")
    (file,) = tmp_path.rglob("*.json")
    file.write_bytes(damage)
    assert passed_checks.recalled("some", "subject", 1) is None
    passed_checks.remember("some", "subject", 1, "again")
    assert passed_checks.recalled("some", "subject", 1) == "again"


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    passed_checks.remember("some", "subject", 1, "kept")
    assert passed_checks.recalled("some", "subject", 1) is None


def test_what_is_kept_is_the_users_alone(tmp_path: Path) -> None:
    passed_checks.remember("some", "subject", 1, "kept")
    (file,) = tmp_path.rglob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def test_only_so_many_subjects_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(passed_checks, "MOST", 5)
    for number in range(9):
        passed_checks.remember("some", str(number), 1, number)
    assert len([*tmp_path.rglob("*.json")]) == 5
    assert passed_checks.recalled("some", "8", 1) == 8


def test_a_file_that_changed_only_now_has_no_stamp(tmp_path: Path, rest: Rest) -> None:
    old, new = written(tmp_path)
    rest(passed_checks.SETTLED)
    assert passed_checks.stamps([old, new]) is not None
    new.write_bytes(b"54321")
    assert passed_checks.stamps([old]) is not None
    assert passed_checks.stamps([old, new]) is None


def test_as_many_bytes_with_the_old_time_are_another_file(tmp_path: Path, rest: Rest) -> None:
    (file, _) = written(tmp_path)
    rest(passed_checks.SETTLED)
    before, status = passed_checks.stamps([file]), file.stat()
    file.write_bytes(b"54321")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    rest(passed_checks.SETTLED)
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert before is not None
    assert passed_checks.stamps([file]) not in (before, None)


def test_a_file_moved_into_the_place_of_another_is_another(tmp_path: Path, rest: Rest) -> None:
    file, other = written(tmp_path)
    rest(passed_checks.SETTLED)
    before, status = passed_checks.stamps([file]), file.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(file)
    rest(passed_checks.SETTLED)
    assert before is not None
    assert passed_checks.stamps([file]) not in (before, None)
