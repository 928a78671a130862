"""Links and pipes in stores and folders of judgements from somebody else are refused, and nothing behind is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from diptych.errors import EvaluationError, StoreError
from diptych.judge import Judgements
from diptych.judge.judgement_files import write_queries
from diptych.types import Query
from qdrant_edge_client import EdgeClient

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="links and pipes of POSIX")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of the user's, outside of the gift."""
    path = tmp_path / "own.txt"
    path.write_text("12345 kept")
    (tmp_path / "gift").mkdir()
    return path


def test_a_lock_that_is_a_link_is_not_followed(own: Path, tmp_path: Path) -> None:
    (tmp_path / "gift" / ".lock").symlink_to(own)
    with pytest.raises(StoreError, match="symbolic links"):
        EdgeClient(tmp_path / "gift")
    assert own.read_text() == "12345 kept"


def test_a_lock_that_is_a_pipe_is_refused(own: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gift" / ".lock")
    with pytest.raises(StoreError, match="regular file"):
        EdgeClient(tmp_path / "gift")


def test_only_its_user_can_read_a_lock_even_one_of_an_earlier_release(tmp_path: Path) -> None:
    EdgeClient(tmp_path / "new").close()
    assert (tmp_path / "new" / ".lock").stat().st_mode & 0o777 == 0o600
    (tmp_path / "new" / ".lock").chmod(0o644)
    EdgeClient(tmp_path / "new").close()
    assert (tmp_path / "new" / ".lock").stat().st_mode & 0o007 == 0


def test_a_log_of_judgements_that_is_a_link_is_neither_read_nor_written(own: Path, tmp_path: Path) -> None:
    (tmp_path / "gift" / "judgements.jsonl").symlink_to(own)
    with pytest.raises(EvaluationError):
        Judgements(tmp_path / "gift")
    assert own.read_text() == "12345 kept"


def test_judgements_are_not_written_through_linked_files_and_folders(own: Path, tmp_path: Path) -> None:
    folder = tmp_path / "gift"
    (folder / f".queries.jsonl.{os.getpid()}.part").symlink_to(own)
    with pytest.raises(OSError, match="symbolic links"):
        write_queries(folder, [Query("q", "text")])
    assert own.read_text() == "12345 kept"
