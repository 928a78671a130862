"""Sources as people have them: notes with front matter, hidden folders, arrays, misnamed columns."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path
from typing import Any

import pytest

from diptych.errors import PopulateError
from diptych.populate import open_source
from diptych.populate.sources.open_source import parse_markdown


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_hidden_and_vendored_folders_and_files_are_not_read(tmp_path: Path) -> None:
    for name in (".git/x.txt", "sub/.venv/deep/y.md", "node_modules/z.txt", "sub/node_modules/z.md", ".hidden.txt"):
        write(tmp_path / "notes" / name, "not mine")
    write(tmp_path / "notes" / "sub" / "mine.txt", "mine")
    source = open_source(tmp_path / "notes")
    assert [row["id"] for row in source if isinstance(row, dict)] == ["sub/mine.txt"]
    assert len(list(source)) == 1


def test_a_hidden_folder_is_read_when_it_is_named_itself(tmp_path: Path) -> None:
    write(tmp_path / ".notes" / "a.txt", "mine")
    assert len(list(open_source(tmp_path / ".notes"))) == 1


@pytest.mark.parametrize(
    ("text", "title", "rest"),
    [
        ("---\ntitle: Tea\ntags: [a, b]\n---\n\n# Tea\n\nHot water.", "Tea", "Hot water."),
        ("---\ntitle: 'It''s: tea'\n---\n# Brewing\nHot.", "It's: tea", "# Brewing\nHot."),
        ("---\ntags:\n  - a\n- b\n# remark\n\n...\n# Tea\nHot.", "Tea", "Hot."),
        ("---\ntitle: >\n  folded\n---\nHot.", "", "Hot."),
        ("---\nkey: 1\n---\nHot.", "", "Hot."),
        ("# Tea\n\nHot.\n\n# Milk\n", "Tea", "Hot.\n\n# Milk"),
        ("Intro.\n\n## Tea ##\nHot.", "Tea", "Intro.\n\nHot."),
        ("# Only a heading", "Only a heading", ""),
        ("---\nA rule, then prose.\n---\nMore.", "", "---\nA rule, then prose.\n---\nMore."),
        ("---\n---\nHot.", "", "---\n---\nHot."),
        ("---\ntitle: never closed\n", "", "---\ntitle: never closed\n"),
        ("```\n# code\n```\nprose\n", "", "```\n# code\n```\nprose\n"),
        ("", "", ""),
    ],
)
def test_front_matter_goes_and_what_is_the_title_is_not_said_twice(text: str, title: str, rest: str) -> None:
    assert parse_markdown(text) == (title, rest)


def test_a_markdown_file_comes_with_its_title_and_without_its_front_matter(tmp_path: Path) -> None:
    path = write(tmp_path / "n" / "tea.MD", "---\ntitle: Tea\n---\nHot water.\n")
    for source in (open_source(tmp_path / "n"), open_source(path)):
        assert isinstance(source, Sized)
        assert len(source) == 1
        assert list(source) == [{"id": "tea.MD", "text": "Hot water.", "title": "Tea"}]


@pytest.mark.parametrize(
    ("header", "options", "message"),
    [
        ("key,text", {}, "no id column(.|\n)*do: name the column that holds the id: --id-column NAME"),
        ("id,body", {}, "no text column(.|\n)*do: name the column that holds the text: --text-column NAME"),
        ("key,text", {"id_column": "kye"}, "no column 'kye'(.|\n)*do: did you mean 'key'"),
        ("id;text;tag", {}, "no id column(.|\n)*do: the columns look separated by ';'"),
        ("id|text", {"id_column": "id"}, r"no column 'id'(.|\n)*do: the columns look separated by '\|'"),
    ],
)
def test_a_table_without_its_columns_says_how_to_name_them(
    tmp_path: Path, header: str, options: dict[str, Any], message: str
) -> None:
    path = write(tmp_path / "c.csv", f"{header}\n1,2\n")
    with pytest.raises(PopulateError, match=message):
        list(open_source(path, **options))


@pytest.mark.parametrize("text", ['[{"id": 1, "text": "x"}]', '[\n  {"id": 1}\n]', '\n [ {"id": 1},\n{"id": 2}]'])
def test_an_array_is_refused_with_the_command_that_splits_it(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "arr.jsonl", text)
    with pytest.raises(PopulateError, match=r"one JSON array(.|\n)*do: jq -c '\.\[\]' FILE \| diptych populate -"):
        list(open_source(path))


def test_a_json_file_names_both_ways_to_read_it(tmp_path: Path) -> None:
    path = write(tmp_path / "arr.json", "[]")
    with pytest.raises(PopulateError, match=r"jq -c '\.\[\]' .*arr\.json \| diptych populate -; .* --format jsonl"):
        open_source(path)


@pytest.mark.parametrize(
    ("name", "text", "places"),
    [
        ("c.jsonl", '{"id": 1, "text": "x"}\n\n{"text": "y"}\n', ["c.jsonl:1", "c.jsonl:3"]),
        ("c.csv", 'id,text\n1,"x\ny"\n,z\n', ["c.csv:3", "c.csv:4"]),
    ],
)
def test_every_entry_knows_its_line(tmp_path: Path, name: str, text: str, places: list[str]) -> None:
    assert [getattr(row, "where", "") for row in open_source(write(tmp_path / name, text))] == places
