"""Documents from data frames, and hits as columns of one: the same whichever library made the frame."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diptych import Collection, Document, Hit, Query, Registry, Run, frames
from diptych.config import parse_config
from diptych.errors import MissingExtra, PopulateError

WHEN = datetime.datetime(2024, 5, 1, 12, 30)
COLUMNS: dict[str, list[Any]] = {
    "id": ["a", "b", "c"],
    "title": ["Sound", None, None],
    "text": ["convert audio", "retouch photographs", None],
    "year": [2001.5, None, 3.0],
    "when": [WHEN, None, WHEN],
    "tags": [["x", "y"], [], None],
}
WANTED = [
    Document("a", "convert audio", "Sound", {"year": 2001.5, "when": WHEN, "tags": ["x", "y"]}),
    Document("b", "retouch photographs", "", {"tags": []}),
    Document("c", "", "", {"year": 3.0, "when": WHEN}),
]


def as_pandas(columns: dict[str, list[Any]]) -> Any:
    return pytest.importorskip("pandas").DataFrame(columns)


def as_polars(columns: dict[str, list[Any]]) -> Any:
    return pytest.importorskip("polars").DataFrame(columns)


def as_arrow(columns: dict[str, list[Any]]) -> Any:
    return pytest.importorskip("pyarrow").table(columns)


def as_narwhals(columns: dict[str, list[Any]]) -> Any:
    return pytest.importorskip("narwhals").from_native(as_pandas(columns))


LIBRARIES = [as_pandas, as_polars, as_arrow, as_narwhals, dict]
Make = Callable[[dict[str, list[Any]]], Any]


@pytest.mark.parametrize("make", LIBRARIES)
def test_rows_are_documents_and_missing_cells_are_left_out(make: Make) -> None:
    assert list(frames.documents(make(COLUMNS))) == WANTED


@pytest.mark.parametrize("make", LIBRARIES)
def test_columns_are_chosen_by_name(make: Make) -> None:
    frame = make({"key": [1, 2], "body": ["one", "two"], "head": ["A", "B"], "extra": [1, 2], "kept": [3, 4]})
    found = list(frames.documents(frame, id="key", text="body", title="head", metadata=["kept"]))
    assert found == [Document("1", "one", "A", {"kept": 3}), Document("2", "two", "B", {"kept": 4})]
    assert [d.metadata for d in frames.documents(frame, id="key", text="body", metadata=())] == [{}, {}]


@pytest.mark.parametrize("make", LIBRARIES)
def test_a_long_frame_is_read_piece_by_piece(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "ROWS", 7)
    numbers = list(range(20))
    found = list(frames.documents(make({"id": numbers, "text": [str(n) for n in numbers]})))
    assert [(d.id, d.text) for d in found] == [(str(n), str(n)) for n in numbers]


def test_pandas_own_kinds_of_nothing_are_missing_too() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "id": [1, None],  # floats, since one is missing
            "text": pandas.array(["one", None], dtype="string"),
            "count": pandas.array([5, None], dtype="Int64"),
            "when": pandas.to_datetime(["2024-05-01", None], utc=True),
            "kind": pandas.Categorical(["x", None]),
        },
        index=[5, 6],
    )
    first, second = frames.documents(frame)
    assert (first.id, first.text, first.metadata["count"], first.metadata["kind"]) == ("1", "one", 5, "x")
    assert first.metadata["when"].isoformat() == "2024-05-01T00:00:00+00:00"
    assert (second.id, second.text, dict(second.metadata)) == ("", "", {})


def test_columns_may_be_numpy_arrays() -> None:
    times = np.array(["2024-05-01T12:30:00.123456789", "NaT"], "datetime64[ns]")
    frame = {
        "id": np.arange(2),
        "text": np.array(["one", "two"]),
        "n": np.array([1.5, np.nan], np.float32),
        "at": times,
    }
    at = datetime.datetime(2024, 5, 1, 12, 30, 0, 123456)
    assert list(frames.documents(frame)) == [Document("0", "one", "", {"n": 1.5, "at": at}), Document("1", "two")]


@pytest.fixture
def things(fakes: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)  # where the report of what was rejected goes
    slots, search = {"dense": {"adapter": "fake-dense"}}, {"retrieve": {"dense": 10}}
    config = parse_config({"store": "memory:", "collection": "things", "slots": slots, "search": search})
    with Collection.open(config, registry=fakes) as opened:
        yield opened


@pytest.mark.parametrize("make", LIBRARIES[:4])
def test_populate_takes_a_frame_and_a_second_time_encodes_nothing(things: Any, make: Make) -> None:
    report = things.populate(make(COLUMNS))
    assert (report.new, report.set_aside) == (2, 1)
    assert things.populate(make(COLUMNS)).unchanged == 2
    (stored,) = things.get(["a"])
    assert stored == Document("a", "convert audio", "Sound", {**WANTED[0].metadata, "when": WHEN.isoformat()})


def test_rows_that_cannot_be_indexed_are_set_aside_with_the_reason(things: Any) -> None:
    frame = {"id": [1.5, "x", "good"], "text": ["one", 7, "three"]}
    report = things.populate(frames.documents(frame))
    assert report.new == 1
    expected = ["the id of a document is not a string", "the text of a document is not a string"]
    assert [example.reason.partition(" (")[0] for example in report.examples] == expected


@pytest.mark.parametrize(
    ("frame", "options", "said"),
    [
        ({"id": [1], "body": ["x"]}, {}, r"(?s)no text column.*expected: text.*documents\(frame, text=\.\.\.\)"),
        ({"id": [1], "text": ["x"]}, {"id": "idd"}, r"(?s)no column 'idd'.*did you mean 'id'"),
        ({"id": [1], "text": ["x"]}, {"metadata": ["more"]}, "no column 'more'"),
        ({"text": ["x"]}, {}, r"(?s)no id column.*id or _id.*reset_index"),
        ({"id": [1, 2], "text": ["x"]}, {}, r"(?s)differ in length.*'id': 2, 'text': 1"),
        ({"id": [1], "text": ["x"], 5: [1]}, {}, r"(?s)name is not text.*got: 5"),
        ([], {}, r"(?s)not a data frame.*got: list"),
    ],
)
def test_a_frame_that_does_not_fit_is_told(frame: Any, options: Any, said: str) -> None:
    with pytest.raises(PopulateError, match=said):
        list(frames.documents(frame, **options))


def test_two_columns_of_one_name_and_frames_that_are_not_collected_are_told() -> None:
    pandas = pytest.importorskip("pandas")
    with pytest.raises(PopulateError, match=r"(?s)two columns have the same name.*'text'"):
        frames.documents(pandas.DataFrame([["a", "b", "c"]], columns=["id", "text", "text"]))
    lazy = pytest.importorskip("polars").LazyFrame({"id": [1], "text": ["x"]})
    with pytest.raises(PopulateError, match=r"(?s)got: LazyFrame.*collect"):
        frames.documents(lazy)


HITS = [
    Hit(Document("a", "one", "A", {"year": 1, "score": "taken"}), 0.5, {"fused": 0.4, "mine": 0.5}),
    Hit(Document("b", "two", "", {"section": "x"}), 0.25, {"fused": 0.3}),
]


def test_hits_are_columns() -> None:
    assert frames.hits(HITS) == {
        "rank": [1, 2],
        "id": ["a", "b"],
        "score": [0.5, 0.25],
        "score.fused": [0.4, 0.3],
        "score.mine": [0.5, None],
        "title": ["A", ""],
        "text": ["one", "two"],
        "year": [1, None],
        "metadata.score": ["taken", None],
        "section": [None, "x"],
    }
    head = ["rank", "id", "score", "score.fused", "score.mine", "title", "text"]
    assert list(frames.hits(HITS)) == [*head, "year", "metadata.score", "section"]
    assert list(frames.hits(HITS[::-1])) == [*head, "section", "year", "metadata.score"]
    assert frames.hits([]) == {"rank": [], "id": [], "score": [], "title": [], "text": []}


def test_answers_of_many_queries_name_the_query() -> None:
    found = frames.answers([Query("what", "q1"), "and this"], [HITS, HITS[:1]])
    assert found["query"] == ["q1", "q1", "and this"]
    assert next(iter(found)) == "query"
    assert found["rank"] == [1, 2, 1]
    with pytest.raises(ValueError, match="shorter"):
        frames.answers(["one", "two"], [HITS])


def test_no_data_frame_library_is_imported() -> None:
    code = "import diptych.frames, sys; print(*{'pandas', 'polars', 'pyarrow', 'narwhals'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_run_and_hits_become_frames_of_pandas() -> None:
    hits = [Hit(Document("a", "one", metadata={"year": 1990}), 2.0), Hit(Document("b", "two"), 1.0)]
    run = Run("dense", {"q1": [("a", 2.0), ("b", 1.0)], "q2": [("b", 0.5)]})
    frame = frames.to_pandas(run)
    assert frame.columns.tolist() == ["query", "rank", "id", "score"]
    assert frame.values.tolist() == [["q1", 1, "a", 2.0], ["q1", 2, "b", 1.0], ["q2", 1, "b", 0.5]]
    assert frames.to_pandas(hits).to_dict("list")["id"] == ["a", "b"]
    several = frames.to_pandas([hits, hits[:1]], [Query("first", "q1"), "second"])
    assert several["query"].tolist() == ["q1", "q1", "second"]
    assert frames.to_pandas(Run("none", {})).columns.tolist() == ["query", "rank", "id", "score"]


def test_without_pandas_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtra, match=r"(?s)needs pandas.*do: pip install pandas"):
        frames.to_pandas([])
