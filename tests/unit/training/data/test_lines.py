"""JSON lines survive what interrupts their writing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych.errors import DocumentError
from diptych_training.teacher_scores import append_lines, read_lines

ROWS = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=30) | st.floats(allow_nan=False)), max_size=8)


@settings(deadline=None, max_examples=60)
@given(first=ROWS, second=ROWS, lost=st.integers(0, 40))
def test_after_a_kill_in_the_middle_of_a_line_the_whole_lines_are_there_and_writing_goes_on(
    first: list[dict[str, object]], second: list[dict[str, object]], lost: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    append_lines(path, first)
    whole = path.read_bytes()
    append_lines(path, second)
    cut = max(len(whole), len(path.read_bytes()) - lost)
    path.write_bytes(path.read_bytes()[:cut])
    left = list(read_lines(path))
    assert left[: len(first)] == first
    assert left == [*first, *second][: len(left)]
    append_lines(path, [{"last": 1}])
    assert list(read_lines(path)) == [*left, {"last": 1}]


def test_a_line_longer_than_a_block_is_cut_off_too(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    append_lines(path, [{"a": 1}])
    with path.open("ab") as file:
        file.write(b'{"b": "' + b"x" * 200_000)
    append_lines(path, [{"c": 2}])
    assert list(read_lines(path)) == [{"a": 1}, {"c": 2}]


def test_no_file_has_no_rows_and_a_line_that_is_no_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    assert list(read_lines(path)) == []
    path.write_text('{"a": 1}\n[1]\n')
    with pytest.raises(DocumentError, match=r"(?s)not a JSON object.*rows.jsonl, line 2.*\[1\]"):
        list(read_lines(path))
