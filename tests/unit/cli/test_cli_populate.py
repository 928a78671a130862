"""`diptych populate` fills a collection and says what it did."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from diptych.cli.populate import together
from diptych.populate import open_source
from diptych.populate.read_ahead import length_of

Run = Callable[..., Any]


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


def test_a_dry_run_needs_no_store_and_refuses_another_encoder_as_a_populate_does(
    run: Run, config: Path, corpus: Path
) -> None:
    assert run("populate", corpus, "--dry-run", "--json").json()["new"] == 4
    assert not Path("qdrant").exists()
    assert run("populate", corpus).code == 0
    config.write_text(config.read_text().replace("fake-dense}", "fake-dense, seed: 1}"))
    answer = run("populate", corpus, "--dry-run")
    assert (answer.code, "another encoder made the vectors" in answer.err) == (1, True)


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


def test_sources_together_are_counted_where_each_can_be(corpus: Path, tmp_path: Path) -> None:
    packed = tmp_path / "packed.jsonl.gz"
    packed.write_bytes(gzip.compress(corpus.read_bytes() + b"\n\n{not json}\n"))
    sources = [open_source(corpus), open_source(packed)]
    both = together(sources)
    assert (length_of(both), len(list(both))) == (9, 9)
    assert length_of(together([*sources, Listed("a")])) is None
