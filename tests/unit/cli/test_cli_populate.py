"""`diptych populate` fills a collection and says what it did."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterator, Sized
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from diptych.cli.output import Bars
from diptych.cli.populate import counted, together
from diptych.populate import open_source

Run = Callable[..., Any]


def test_documents_are_counted_and_a_second_run_encodes_nothing(run: Run, config: Path, corpus: Path) -> None:
    first = run("populate", corpus)
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("animals: 4 read: 4 new in ")
    assert "encoded: dense 4, lexical 4" in first.out
    second = run("populate", corpus)
    assert second.code == 0
    assert "4 read: 4 unchanged" in second.out
    assert "nothing to encode" in second.out


def test_an_empty_source_is_warned_of_once(
    run: Run, config: Path, corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "notes").mkdir()
    assert "not created" in run("populate", "notes").err
    assert run("populate", corpus).code == 0
    for source, text in (("notes", None), ("-", "")):
        answer = run("populate", source, input=text)
        assert (answer.code, answer.err) == (0, "warning: nothing was read: the source is empty\n")
        assert "up to date" not in answer.out
    assert not caplog.records, "what is printed is not logged too"


def test_documents_that_cannot_be_indexed_are_named_and_the_exit_code_is_3(
    run: Run, config: Path, corpus: Path, tmp_path: Path
) -> None:
    with corpus.open("a") as file:
        file.write('{"id": "void", "text": "  "}\n')
    answer = run("populate", corpus, "--report", tmp_path / "bad.jsonl")
    assert answer.code == 3
    assert "4 new, 1 rejected" in answer.out
    assert "1 rejected, with reasons in" in answer.err
    assert "void: empty document" in answer.err
    assert "void" in (tmp_path / "bad.jsonl").read_text()


def test_several_sources_are_one_corpus_and_sync_deletes_what_none_of_them_has(
    run: Run, config: Path, corpus: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.csv"
    other.write_text("id,text\nfox,the fox is quick\n")
    assert run("populate", corpus, other, "--json").json()["new"] == 5
    report = run("populate", other, "--sync", "--yes", "--json").json()
    assert (report["unchanged"], report["deleted"]) == (1, 4)
    assert run("info", "--json").json()["documents"] == 1


def test_a_sync_with_the_wrong_file_deletes_nothing_and_says_how_many_it_would(
    run: Run, config: Path, tmp_path: Path
) -> None:
    lines = [json.dumps({"id": f"p{n}", "text": f"word{n}"}) + "\n" for n in range(8)]
    (tmp_path / "right.jsonl").write_text("".join(lines))
    (tmp_path / "wrong.jsonl").write_text("".join([lines[0], '{"id": "new", "text": "other"}\n']))
    run("populate", "right.jsonl")
    answer = run("populate", "wrong.jsonl", "--sync")
    assert (answer.code, answer.out) == (1, "")
    for part in ("would delete 7 of 8 documents", "'p", "at most 1 of 8", "--yes", "0 documents were acknowledged"):
        assert part in answer.err
    error = run("populate", "wrong.jsonl", "--sync", "--json").error()
    assert error["kind"] == "SyncRefused"
    assert run("info", "--json").json()["documents"] == 8
    assert run("populate", "wrong.jsonl", "--sync", "-y").code == 0
    assert run("info", "--json").json()["documents"] == 2


def test_a_dry_run_counts_and_writes_nothing(run: Run, config: Path, corpus: Path, tmp_path: Path) -> None:
    first = run("populate", corpus, "--dry-run", "--sync")
    assert (first.code, first.err) == (0, "")
    assert first.out.startswith("animals, dry run: 4 read: 4 new in ")
    assert "nothing was encoded, written or deleted" in first.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["animals.jsonl", "diptych.yaml"]
    run("populate", corpus)
    lines = corpus.read_text().splitlines()
    corpus.write_text("\n".join([*lines[1:3], '{"id": "hen", "text": "hens"}', '{"id": "bad", "text": ""}']))
    answer = run("populate", corpus, "--dry-run", "--sync")
    assert answer.code == 3
    assert "4 read: 1 changed, 2 unchanged, 1 rejected, 1 deleted" in answer.out
    assert "to delete: cat" in answer.out
    assert "bad: empty document" in answer.err
    report = run("populate", corpus, "--dry-run", "--sync", "--json").json()
    assert (report["dry_run"], report["deleted"], report["deleted_examples"]) == (True, 1, ["cat"])
    assert run("info", "--json").json()["documents"] == 4


def test_standard_input_is_a_source(run: Run, config: Path) -> None:
    lines = "".join(json.dumps({"id": str(n), "text": f"word{n}"}) + "\n" for n in range(3))
    assert run("populate", "-", "--json", input=lines).json()["new"] == 3


def test_types_are_named_by_column(run: Run, config: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,text,a,b,c\n1,words,1,2,3\n")
    assert run("populate", "t.csv", "--types", "a=text, b=float", "--types", "*=integer").code == 0
    (hit,) = run("search", "words", "--json").json()["queries"][0]["hits"]
    assert hit["metadata"] == {"a": "1", "b": 2.0, "c": 3}


class Listed:
    name = "a list"

    def __init__(self, *items: str) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


class Once(Listed):
    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        raise StopIteration


def test_sources_together_can_be_read_again_exactly_when_each_can() -> None:
    again = together([Listed("a"), Listed("b")])
    assert [list(again), list(again)] == [["a", "b"], ["a", "b"]]
    assert not isinstance(again, Iterator)
    assert isinstance(together([Listed("a"), Once()]), Iterator)


def test_lines_are_counted_without_a_look_at_them_when_progress_is_watched(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(corpus.read_bytes() + b"\n\n{not json}\n"))
    sources = [open_source(corpus), open_source(packed)]
    assert counted(sources) == sources
    monkeypatch.setattr("sys.stderr", Terminal())
    both = together(counted(sources))
    assert isinstance(both, Sized)
    assert (len(both), len(list(both))) == (9, 9)
    assert not isinstance(together(counted([*sources, Listed("a")])), Sized)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_stage_expects_what_an_earlier_one_has_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = io.StringIO()
    monkeypatch.setattr("diptych.cli.output.stderr", lambda: Console(file=stream, force_terminal=True, width=120))
    with Bars() as bars:
        bars.begin("measure", None)
        bars.advance("measure", 7)
        bars.begin("read", None)
        bars.begin("index", None)
        for stage in ("read", "index"):
            bars.advance(stage, 3)
        bars._bars.refresh()
        assert stream.getvalue().count("3/7") >= 2


def test_a_bar_shows_count_and_rate_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=120)
        monkeypatch.setattr("diptych.cli.output.stderr", lambda made=console: made)
        with Bars() as bars:
            bars.begin("index", 10)
            bars.advance("index", 4)
            bars.advance("index", 6)
        assert ("encoding" in stream.getvalue()) is terminal
        assert ("10/10" in stream.getvalue()) is terminal
