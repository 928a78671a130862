"""The report of rejected documents: where it can be written, and what becomes of an older one."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diptych.errors import PopulateError
from diptych.populate.rejects import Rejects


def test_a_place_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "report.jsonl", Path("/proc/nothing/report.jsonl")):
        with pytest.raises(
            PopulateError, match=r"report of rejected documents cannot be written\n  where: .*\n  got: "
        ):
            Rejects(path).__enter__()


def test_another_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    for text in ('{"id": "a", "text": "one"}\n', "some notes\n", "[1]\n"):
        path.write_text(text)
        with pytest.raises(PopulateError, match="would overwrite another file"):
            Rejects(path).__enter__()
        assert path.read_text() == text


def test_nothing_set_aside_leaves_no_file_and_takes_the_report_of_a_run_before_away(tmp_path: Path) -> None:
    path = tmp_path / "reports" / "aside.jsonl"
    with Rejects(path) as rejects:
        assert not path.exists()
        rejects.add("a", 0, "empty")
    assert json.loads(path.read_text()) == {"id": "a", "position": 0, "reason": "empty"}
    with Rejects(path) as rejects:
        rejects.add("b", 3, "too long")
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == ["b"]
    with Rejects(path):
        pass
    assert not path.exists()


def test_a_run_that_fails_keeps_the_report_of_the_run_before(tmp_path: Path) -> None:
    path = tmp_path / "aside.jsonl"
    with Rejects(path) as rejects:
        rejects.add("a", 0, "empty")
    with pytest.raises(RuntimeError, match="store"), Rejects(path):
        raise RuntimeError("the store is gone")
    assert path.exists()


def test_a_second_run_of_the_process_can_leave_the_report_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "aside.jsonl"
    for expected in ("aside.jsonl", "aside-2.jsonl", "aside-3.jsonl"):
        with Rejects(path, keep=True) as rejects:
            rejects.add(expected, 0, "why")
        assert rejects.report_file == str(tmp_path / expected)
        assert f'"{expected}"' in (tmp_path / expected).read_text()
    with Rejects(path, keep=True):
        pass
    assert path.exists()


def test_the_report_of_a_second_run_passes_over_another_file_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "aside-2.jsonl").write_text("notes of mine\n")
    for expected in ("aside.jsonl", "aside-3.jsonl"):
        with Rejects(tmp_path / "aside.jsonl", keep=True) as rejects:
            rejects.add("a", 0, "why")
        assert rejects.report_file == str(tmp_path / expected)
    assert (tmp_path / "aside-2.jsonl").read_text() == "notes of mine\n"


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hasty")
def test_runs_at_the_same_time_try_and_use_the_same_path_without_harm(tmp_path: Path) -> None:
    path, written = tmp_path / "report.jsonl", list[str]()

    def run(number: int) -> None:
        for turn in range(300):
            with Rejects(path, keep=True) as rejects:
                if turn % 100 == 99 - number:
                    rejects.add(f"{number}.{turn}", 0, "bad")
                    written.append(rejects.report_file)

    with ThreadPoolExecutor(4) as pool:
        for one in [pool.submit(run, number) for number in range(4)]:
            one.result()
    assert len(written) == len(set(written)) == 12
    kept = {json.loads(line)["id"] for name in written for line in Path(name).read_text().splitlines()}
    assert len(kept) == 12
