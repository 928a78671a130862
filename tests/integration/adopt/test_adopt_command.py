"""`diptych adopt` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient
from typer.testing import CliRunner

from diptych import Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych_edge import EdgeClient

Run = Callable[..., Any]
CONFIG = """\
store: edge:./qdrant
collection: c
slots:
  dense: {adapter: fake-dense, dimension: 24}
  lexical: {adapter: fake-sparse}
"""


@pytest.fixture
def run(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("DIPTYCH_CACHE", "off")
    monkeypatch.setenv("COLUMNS", "160")
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args], obj=Session(registry))


@pytest.fixture
def folder(tmp_path: Path, ways: Mapping[str, Any], texts: list[Any]) -> Path:
    """A folder with a config and a store that LangChain filled."""
    with EdgeClient(tmp_path / "qdrant") as client:
        ways["langchain-hybrid"].create(client)
        ways["langchain-hybrid"].write(client, texts)
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    return tmp_path


def test_it_says_what_it_found_and_searching_goes_on(run: Run, folder: Path) -> None:
    answer = run("adopt")
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert answer.stdout.splitlines() == [
        "c: 80 points, adopted",
        "layout: langchain, text in 'page_content'",
        "dense: the unnamed vector, made by fake-dense (cosine over 64 sampled points: median 1.0000, lowest 1.0000)",
        "lexical: 'langchain-sparse', made by fake-sparse "
        "(cosine over 64 sampled points: median 1.0000, lowest 1.0000)",
        "only metadata was written; to change an encoder, edit the config and run: diptych plan",
    ]
    for command in (("search", "word3 word10"), ("search", "word3", "--explain"), ("info",), ("plan",)):
        assert run(*command).exit_code == 0, command
    assert "adopted" in run("status", "--history").stdout
    again = run("adopt")
    assert again.exit_code == 1
    assert "the collection is already managed by diptych" in again.stderr
    assert run("adopt", "--again").exit_code == 0
    assert run("status", "--history").stdout.count("adopted") == 2


def test_a_filter_by_a_key_of_langchains_metadata_is_told_where_the_key_is(run: Run, folder: Path) -> None:
    run("adopt")
    found = run("search", "word3", "--where", "section=s1")
    assert found.exit_code == 0
    assert "no document has 'section', which the filter asks for: did you mean 'metadata.section'?" in found.stderr


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_folder_of_qdrant_clients_local_mode_is_adopted_in_its_place(
    run: Run, tmp_path: Path, ways: Mapping[str, Any], texts: list[Any]
) -> None:
    with closing(QdrantClient(path=str(tmp_path / "local"))) as client:
        ways["langchain-hybrid"].create(client)
        ways["langchain-hybrid"].write(client, texts)
    (tmp_path / "diptych.yaml").write_text(CONFIG.replace("edge:./qdrant", "local:./local"))
    answer = run("adopt")
    assert (answer.exit_code, answer.stderr) == (0, "")
    assert answer.stdout.startswith("c: 80 points, adopted\n")
    found = run("search", "word3 word10", "--json")
    assert (found.exit_code, len(json.loads(found.stdout)["queries"][0]["hits"])) == (0, 10)


def test_store_and_collection_may_be_named_and_the_answer_be_json(run: Run, folder: Path) -> None:
    (folder / "diptych.yaml").write_text(
        CONFIG.replace("./qdrant", "./other").replace("collection: c", "collection: d")
    )
    answer = run(
        "adopt", "--store", "edge:./qdrant", "--collection", "c", "--slot", "dense=", "--slot",
        "lexical=langchain-sparse", "--layout", "langchain", "--sample", 16, "--json",
    )  # fmt: skip
    found = json.loads(answer.stdout)
    assert (found["collection"], found["points"], found["layout"]["origin"]) == ("c", 80, "langchain")
    assert [slot["vector"] for slot in found["slots"]] == ["", "langchain-sparse"]
    assert {slot["sampled"] for slot in found["slots"]} == {16}
    assert not (folder / "other").exists()


def test_a_wrong_encoder_is_an_error_with_the_cosine(run: Run, folder: Path) -> None:
    (folder / "diptych.yaml").write_text(CONFIG.replace("dimension: 24", "dimension: 24, seed: 5"))
    answer = run("adopt", "--json")
    assert (answer.exit_code, answer.stdout) == (1, "")
    error = json.loads(answer.stderr)["error"]
    assert error["kind"] == "FingerprintMismatch"
    assert error["what"].startswith("the encoder did not make these vectors (cosine ")
    assert "slot 'dense', the unnamed vector" in error["where"]


def test_keys_of_a_layout_of_ones_own(run: Run, folder: Path) -> None:
    answer = run("adopt", "--text", "page_content", "--metadata", "metadata", "--json")
    assert json.loads(answer.stdout)["layout"] == {
        "text": "page_content", "title": None, "id": None, "metadata": "metadata", "origin": "by hand",
        "integer_ids": False, "own_points": False, "media": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--slot", "dense"), ["--slot", "dense=text-dense"]),
        (("--slot", "=x"), ["--slot", "dense=text-dense"]),
        (("--media", "photo"), ["--media", "photo=image"]),
        (("--store", "edge:./nowhere"), ["there is no embedded store"]),
    ],
)
def test_options_that_cannot_be_used_are_refused(run: Run, folder: Path, words: Sequence[str], says: list[str]) -> None:
    answer = run("adopt", *words)
    assert answer.exit_code == 1
    assert [part for part in says if part not in answer.stderr] == []
    assert not (folder / "nowhere").exists()
