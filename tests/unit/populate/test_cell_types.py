"""CSV says nothing of types: a column holds numbers when each cell is written just as its number would be."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import PopulateError
from diptych.populate import Rejected, open_source
from diptych.populate.sources.readers import as_inferred, infer_types


def read(tmp_path: Path, *cells: str, **options: Any) -> list[Any]:
    """The values of column `n` in the documents."""
    with (tmp_path / "c.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "text", "n"), *((f"d{at}", "words", cell) for at, cell in enumerate(cells))])
    return [
        row.reason if isinstance(row, Rejected) else row.get("n") for row in open_source(tmp_path / "c.csv", **options)
    ]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1897", "2026", "-5", "0"], [1897, 2026, -5, 0]),
        (["1", "", "3"], [1, None, 3]),
        (["1.5", "2.25", "-0.125"], [1.5, 2.25, -0.125]),
        (["1.50", "12.25", "9.00"], [1.5, 12.25, 9.0]),  # prices
        (["1", "2.5"], [1, 2.5]),
        (["true", "false", "true"], [True, False, True]),
        (["9223372036854775807"], [2**63 - 1]),
    ],
)
def test_columns_of_numbers_and_truth_are_such(tmp_path: Path, cells: list[str], values: list[Any]) -> None:
    found = read(tmp_path, *cells)
    assert found == values
    assert [type(value) for value in found] == [type(value) for value in values]


@pytest.mark.parametrize(
    "cells",
    [
        ["007"],
        ["90210", "01234"],  # zip codes
        ["+4930123456"],
        ["1e5"],
        ["1E5"],
        ["nan"],
        ["NaN"],
        ["inf"],
        ["-0"],
        [" 5"],
        ["5 "],
        ["1_000"],
        ["1,000"],
        ["1."],
        [".5"],
        ["1.5", "1.50"],  # versions
        ["3.9", "3.10"],
        ["1.2.3"],
        ["٣"],  # a digit, but not as JSON writes it
        ["9223372036854775808"],
        ["0.1234567890123456789"],
        ["12345678901234567890.5"],
        ["12", "n/a"],
        ["true", "1"],
        ["True"],
        ["true", "yes"],
        ["0x10"],
        ["2020-01-01"],
    ],
)
def test_a_column_with_a_cell_that_is_written_otherwise_is_text(tmp_path: Path, cells: list[str]) -> None:
    assert read(tmp_path, *cells) == cells


def test_every_value_that_is_told_can_be_written_as_its_cell_again() -> None:
    draw = random.Random(7)
    alphabet = ["0", "1", "9", "-", ".", "+", "e", "5", "00", "true", " "]
    for _ in range(5000):
        column = ["".join(draw.choices(alphabet, k=draw.randint(1, 5))) for _ in range(draw.randint(1, 3))]
        kind = infer_types(["n"], [[cell] for cell in column]).get("n")
        for cell in column:
            value = as_inferred(cell, kind) if kind else cell
            decimals = len(cell.partition(".")[2])
            written = f"{value:.{decimals}f}" if isinstance(value, float) else str(value)
            assert (written.lower() if isinstance(value, bool) else written) == cell, column


def test_a_cell_far_down_decides_too_and_both_readings_agree(tmp_path: Path) -> None:
    cells = [str(n) for n in range(5000)] + ["007"]
    assert read(tmp_path, *cells) == cells
    source = open_source(tmp_path / "c.csv")
    first = list(source)
    (tmp_path / "c.csv").write_text("id,text,n\nd0,words,0\n")
    assert next(iter(source)) == first[0], "types that were told once hold"


def test_a_file_that_changes_between_two_readings_loses_no_cell(tmp_path: Path) -> None:
    assert read(tmp_path, "1", "2") == [1, 2]
    source = open_source(tmp_path / "c.csv")
    assert [row["n"] for row in source if isinstance(row, dict)] == [1, 2]
    (tmp_path / "c.csv").write_text("id,text,n\nd0,words,none\nd1,words,3\n")
    assert [row["n"] for row in source if isinstance(row, dict)] == ["none", 3]


def test_ids_texts_and_titles_stay_text(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("key,body,heading,n\n1,2,3,4\n")
    names: Any = {"id_column": "key", "text_column": "body", "title_column": "heading"}
    assert list(open_source(tmp_path / "c.csv", **names)) == [{"n": 4, "id": "1", "text": "2", "title": "3"}]
    assert list(open_source(tmp_path / "c.csv", types={"*": "integer"}, **names)) == [
        {"n": 4, "id": "1", "text": "2", "title": "3"}
    ]


@pytest.mark.parametrize(
    ("types", "cells", "values"),
    [
        ({"n": "text"}, ["1", "2"], ["1", "2"]),
        ({"*": "text"}, ["1", "2"], ["1", "2"]),
        ({"*": "text", "n": "integer"}, ["1", "2"], [1, 2]),
        ({"n": "integer"}, ["007", "8"], [7, 8]),
        ({"n": "integer"}, ["7", "x"], [7, "column 'n' holds no integer: 'x'"]),
        ({"n": "float"}, ["1e5", "2"], [1e5, 2.0]),
        ({"n": "float"}, ["nan", "2"], ["column 'n' holds no float: 'nan'", 2.0]),
        ({"n": "bool"}, ["yes", "FALSE", "1"], [True, False, True]),
    ],
)
def test_a_type_that_is_named_holds_and_a_cell_that_has_it_not_is_rejected(
    tmp_path: Path, types: dict[str, str], cells: list[str], values: list[Any]
) -> None:
    assert read(tmp_path, *cells, types=types) == values


def test_a_row_that_is_rejected_for_its_type_keeps_its_id(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("key,text,n\nk7,words,x\n")
    (rejected,) = open_source(tmp_path / "c.csv", id_column="key", types={"n": "integer"})
    assert rejected == Rejected("c.csv:2", "column 'n' holds no integer: 'x'", id="k7")


@pytest.mark.parametrize(
    ("name", "types", "message"),
    [
        ("c.csv", {"n": "number"}, r"unknown type of a column\n  where: n\n  got: 'number'\n  expected: text, integer"),
        ("c.csv", {"year": "integer"}, r"the table has no column 'year'\n.*\n  got: id, text, n"),
        ("c.jsonl", {"n": "integer"}, "types of columns can be named for csv alone"),
    ],
)
def test_a_type_that_cannot_be_is_an_error_before_anything_is_read(
    tmp_path: Path, name: str, types: dict[str, str], message: str
) -> None:
    (tmp_path / "c.csv").write_text("id,text,n\n1,2,3\n")
    (tmp_path / "c.jsonl").write_text('{"id": 1, "text": "x"}\n')
    with pytest.raises(PopulateError, match=message):
        open_source(tmp_path / name, types=types)
