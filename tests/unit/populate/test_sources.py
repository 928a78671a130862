from __future__ import annotations

import gzip
import io
import json
import sys
import tracemalloc
from collections.abc import Iterator, Sized
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import PopulateError
from diptych.populate import Rejected, open_source
from diptych.populate.validate import plain_document
from diptych.types import Document

ROWS = [{"id": "a", "text": "one", "n": 1}, {"id": "b", "text": "two", "n": 2}]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def write(path: Path, text: str | bytes) -> Path:
    raw = text.encode() if isinstance(text, str) else text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [
        ("corpus.jsonl", LINES, None),
        ("corpus.jsonl.gz", LINES, None),
        ("corpus.ndjson", b"\xef\xbb\xbf" + LINES.rstrip().encode(), None),
        ("dump.csv", LINES, "jsonl"),
    ],
)
def test_json_lines_can_be_read_again_and_again(
    tmp_path: Path, name: str, text: str | bytes, format: str | None
) -> None:
    source = open_source(path := write(tmp_path / name, text), format=format)
    assert list(source) == list(source) == ROWS
    assert source.name == str(path)
    assert not isinstance(source, Iterator)
    assert isinstance(source, Sized)
    assert len(source) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": 1, "text": ', "not JSON: Expecting value"),
        ("plain words", "not JSON: Expecting value"),
        ("[1, 2]", "not a JSON object but list"),
        ('"text"', "not a JSON object but str"),
        ("null", "not a JSON object but NoneType"),
        (b'{"text": "\xff"}', "not JSON: 'utf-8' codec can't decode"),
        ("[" * 100_000, "not JSON: maximum recursion depth"),
        ('{"id": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
    ],
)
def test_a_malformed_line_is_rejected_with_file_and_line_and_the_rest_is_read(
    tmp_path: Path, line: str | bytes, reason: str
) -> None:
    raw = line.encode() if isinstance(line, str) else line
    path = write(tmp_path / "c.jsonl", LINES.encode() + b"\n" + raw + b"\n" + LINES.encode())
    found = list(open_source(path))
    assert [row for row in found if isinstance(row, dict)] == ROWS + ROWS
    (rejected,) = [row for row in found if isinstance(row, Rejected)]
    assert rejected.where == "c.jsonl:4"
    assert rejected.reason.startswith(reason)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.csv", 'id,text,tag\r\na,"one, and\nmore",x\r\nb,two,\r\n'),
        ("c.csv.gz", 'id,text,tag\na,"one, and\nmore",x\nb,two,\n'),
        ("c.tsv", 'id\ttext\ttag\na\t"one, and\nmore"\tx\nb\ttwo\t\n'),
        ("c.csv", '\ufeffid,text,tag\na,"one, and\nmore",x\nb,two,\n'),
    ],
)
def test_tables_are_read_by_their_header_and_empty_cells_left_out(tmp_path: Path, name: str, text: str) -> None:
    source = open_source(write(tmp_path / name, text))
    assert list(source) == [{"id": "a", "text": "one, and\nmore", "tag": "x"}, {"id": "b", "text": "two"}]


def test_rows_with_too_many_cells_are_rejected_and_long_cells_are_not(tmp_path: Path) -> None:
    long = "x" * 200_000
    found = list(open_source(write(tmp_path / "c.csv", f"id,text\n1,a,b\n2,{long}\n")))
    assert found == [Rejected("c.csv:2", "the row has more cells than the header"), {"id": "2", "text": long}]


def test_a_cell_that_is_not_utf_8_spoils_its_own_document_only(tmp_path: Path) -> None:
    first, second = list(open_source(write(tmp_path / "c.csv", b"id,text\n1,caf\xe9\n2,fine\n")))
    assert second == {"id": "2", "text": "fine"}
    with pytest.raises(Exception, match="not valid Unicode"):
        plain_document(Document.from_mapping(first))  # type: ignore[arg-type]


def test_parquet_is_read_with_its_number_of_rows(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table({"key": [1, 2], "text": ["one", "two"], "n": [1.5, float("nan")], "tags": [["x"], None]})
    parquet.write_table(table, tmp_path / "c.parquet")
    source = open_source(tmp_path / "c.parquet", id_column="key")
    assert isinstance(source, Sized)
    assert len(source) == 2
    assert list(source) == [{"id": 1, "text": "one", "n": 1.5, "tags": ["x"]}, {"id": 2, "text": "two"}]
    with pytest.raises(PopulateError, match="the table has no id column"):
        list(open_source(tmp_path / "c.parquet"))


@pytest.mark.parametrize("name", ["corpus.jsonl", "corpus.jsonl.gz"])
def test_a_beir_folder_is_its_corpus(tmp_path: Path, name: str) -> None:
    write(tmp_path / "scifact" / name, LINES)
    write(tmp_path / "scifact" / "queries.jsonl", '{"_id": "q", "text": "?"}\n')
    assert list(open_source(tmp_path / "scifact")) == ROWS


def test_a_folder_of_texts_has_paths_as_ids_and_headings_as_titles(tmp_path: Path) -> None:
    write(tmp_path / "notes" / "b.md", "```\n# a comment\n```\n\n## The *title* ##\n\nwords")
    write(tmp_path / "notes" / "sub" / "a.txt", "# no heading here")
    write(tmp_path / "notes" / "plain.markdown", "no heading\n#hashtag")
    write(tmp_path / "notes" / "picture.png", b"\x89PNG")
    write(tmp_path / "notes" / "latin.txt", b"caf\xe9")
    source = open_source(tmp_path / "notes")
    assert isinstance(source, Sized)
    assert len(source) == 4
    found = {(row.where if isinstance(row, Rejected) else row["id"]): row for row in source}
    assert list(found) == ["b.md", "latin.txt", "plain.markdown", "sub/a.txt"]
    title = {key: row["title"] for key, row in found.items() if isinstance(row, dict)}
    assert title == {"b.md": "The *title*", "sub/a.txt": "", "plain.markdown": ""}
    assert isinstance(found["latin.txt"], Rejected)
    assert found["latin.txt"].reason.startswith("unreadable file: 'utf-8' codec")
    assert [*open_source(tmp_path / "notes" / "sub" / "a.txt")] == [{**found["sub/a.txt"], "id": "a.txt"}]  # type: ignore[dict-item]


def test_standard_input_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(LINES.encode() + b"oops\n")))
    source = open_source("-")
    assert isinstance(source, Iterator)
    assert source.name == "standard input"
    *rows, last = source
    assert rows == ROWS
    assert isinstance(last, Rejected)
    assert last.where == "standard input:3"
    assert list(source) == []


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("missing.jsonl", None, "there is no such source"),
        ("corpus.xml", None, r"does not show its format(.|\n)*expected: .jsonl, (.|\n)*name the format"),
        ("corpus.gz", None, "does not show its format"),
        ("corpus.jsonl", "xml", r"unknown format of a source(.|\n)*got: 'xml'(.|\n)*jsonl, csv, parquet, beir, files"),
        ("folder", "beir", r"not a BEIR folder(.|\n)*corpus.jsonl.gz or corpus.jsonl"),
        ("folder", "jsonl", r"a folder is not a jsonl file(.|\n)*beir or files"),
        ("corpus.jsonl", "beir", "not a BEIR folder"),
    ],
)
def test_a_source_that_cannot_be_opened_says_why(tmp_path: Path, name: str, format: str | None, message: str) -> None:
    for existing in ("corpus.xml", "corpus.gz", "folder/a.txt"):
        write(tmp_path / existing, "")
    write(tmp_path / "corpus.jsonl", LINES)
    with pytest.raises(PopulateError, match=message):
        open_source(tmp_path / name, format=format)


def tables(folder: Path) -> Iterator[Path]:
    """One document in each format that has columns or keys."""
    import pyarrow
    from pyarrow import parquet

    row = {"doi": "10/1", "abstract": "words", "heading": "Title", "year": 1897, "id": "old", "_id": "older"}
    yield write(folder / "c.jsonl", json.dumps(row) + "\n")
    yield write(folder / "beir" / "corpus.jsonl.gz", json.dumps(row) + "\n").parent
    yield write(folder / "c.csv", ",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    parquet.write_table(pyarrow.table({key: [value] for key, value in row.items()}), folder / "c.parquet")
    yield folder / "c.parquet"


def test_columns_of_other_names_are_read_in_every_format_that_has_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    names = {"id_column": "doi", "text_column": "abstract", "title_column": "heading"}
    wanted = {"year": 1897, "id": "10/1", "text": "words", "title": "Title"}
    for path in tables(tmp_path):
        source = open_source(path, **names)  # type: ignore[arg-type]
        assert list(source) == list(source) == [wanted], path
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "c.jsonl").read_bytes())))
    assert list(open_source("-", **names)) == [wanted]  # type: ignore[arg-type]


def test_a_wrong_column_is_told_with_those_that_are_there_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow")
    for path in tables(tmp_path):
        for option in ("id_column", "text_column", "title_column"):
            with pytest.raises(
                PopulateError, match=r"no column 'dio'(.|\n)*got: doi, abstract, heading, year"
            ) as error:
                open_source(path, **{option: "dio"})  # type: ignore[arg-type]
            assert "did you mean 'doi'" in error.value.do
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((tmp_path / "c.jsonl").read_bytes())))
    with pytest.raises(PopulateError, match="the source has no column 'dio'"):
        open_source("-", id_column="dio")
    with pytest.raises(PopulateError, match="files have no columns"):
        open_source(write(tmp_path / "notes" / "a.txt", "words"), id_column="name")


def test_json_lines_none_of_which_has_an_id_are_refused_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", "not json\n" + '{"key": "a", "text": "one"}\n' * 200)
    with pytest.raises(
        PopulateError, match=r"the source has no id column\n.*\n  got: key, text\n(.|\n)*--id-column NAME"
    ):
        open_source(path)
    write(path, '{"key": "a", "text": "one"}\n' + LINES)
    assert len(list(open_source(path))) == 3


def test_an_object_without_the_named_key_gets_no_other_id(tmp_path: Path) -> None:
    path = write(tmp_path / "c.jsonl", '{"doi": "1", "text": "x"}\n{"id": "2", "text": "y"}\n')
    assert list(open_source(path, id_column="doi")) == [{"text": "x", "id": "1"}, {"text": "y"}]


def test_a_line_without_end_is_rejected_in_little_memory_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"id": "1", "text": "fine"}\n')
        for _ in range(80):
            file.write(b"x" * 2**20)
        file.write(b'\n{"id": "2", "text": "fine"}\n' + b'{"id": "3", "text": "' + b"y" * 2**24)
    tracemalloc.start()
    try:
        found = list(open_source(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [row.reason if isinstance(row, Rejected) else row.get("id") for row in found] == [
        "1", "the line is too long: at most 16,777,216 bytes", "2", "the line is too long: at most 16,777,216 bytes",
    ]  # fmt: skip
    assert peak < 5 * 2**24


def test_a_csv_row_without_end_is_rejected_in_little_memory_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "corpus.csv.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b"id,text\n1,fine\n2,")
        for _ in range(80):
            file.write(b"x" * 2**20)
        file.write(b"\n3,fine\n")
        file.write(b'4,"' + b"a line of a cell that is never closed\n" * 445_000)
        file.write(b"5,fine\n")
    tracemalloc.start()
    try:
        found = list(open_source(path))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    rejected = [row for row in found if isinstance(row, Rejected)]
    too_long = "the row is too long: at most 16,777,216 characters; is a quote left open?"
    assert [row.reason for row in rejected[:2]] == [too_long] * 2
    assert rejected[0].where == "corpus.csv.gz:3"
    assert [row["id"] for row in found if isinstance(row, dict) and row.get("text") == "fine"] == ["1", "3", "5"]
    assert peak < 10 * 2**24


def repeated(path: Path, length: int, *, in_lists: bool = False) -> Path:
    """A Parquet file of a few kilobytes whose 200 rows hold one text of that length."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 200, pyarrow.int32()), ["x" * length])
    columns = {"id": [str(n) for n in range(200)], "text": ["words"] * 200 if in_lists else texts}
    if in_lists:
        columns["tags"] = pyarrow.ListArray.from_arrays(pyarrow.array(range(201), pyarrow.int32()), texts)
    parquet.write_table(pyarrow.table(columns), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 6_000
    return path


@pytest.mark.parametrize("in_lists", [False, True])
def test_a_text_that_each_row_of_a_parquet_file_repeats_is_held_once(tmp_path: Path, in_lists: bool) -> None:
    import pyarrow

    source = open_source(repeated(tmp_path / "a.parquet", 3_000_000, in_lists=in_lists))
    before = pyarrow.total_allocated_bytes()
    held = [pyarrow.total_allocated_bytes() - before for row in source if isinstance(row, dict)]
    assert len(held) == 200
    assert max(held) < 100_000_000  # of 600,000,000


@pytest.mark.parametrize("in_lists", [False, True])
def test_rows_of_parquet_that_are_too_large_are_rejected_one_by_one(tmp_path: Path, in_lists: bool) -> None:
    found = list(open_source(repeated(tmp_path / "a.parquet", 2**24, in_lists=in_lists)))
    reason = "the row is too large: at most 16,777,216 bytes"
    assert found == [Rejected(f"a.parquet:{n}", reason) for n in range(1, 201)]


def test_a_parquet_file_whose_lists_unpack_to_too_much_is_refused(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    lists = pyarrow.ListArray.from_arrays([0, 20_000_000], pyarrow.nulls(20_000_000, pyarrow.int8()))
    parquet.write_table(pyarrow.table({"id": ["a"], "text": ["b"], "v": lists}), tmp_path / "a.parquet")
    with pytest.raises(PopulateError, match=r"the Parquet file unpacks to too much(.|\n)*got: 160,000,0"):
        list(open_source(tmp_path / "a.parquet"))


@pytest.mark.parametrize("path", ["a" * 300, "\0", "\ud800", "", 5, None, "x" * 5000], ids=repr)
def test_a_path_that_cannot_be_is_no_source(path: Any) -> None:
    with pytest.raises(PopulateError, match=r"no such source|does not show its format"):
        open_source(path)


def test_a_damaged_parquet_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "corpus.parquet"
    for content in (b"", b"PAR1", b"PAR1" + bytes(500) + b"PAR1"):
        path.write_bytes(content)
        with pytest.raises(PopulateError, match="Parquet file cannot be read"):
            list(open_source(path))
