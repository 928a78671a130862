"""Every command in every phase of a swap: edited, under way, cut over, rolled back."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli_values import COMMAND
from diptych import Registry
from diptych.collection.collection import Collection

Run = Callable[..., Any]
OLD, NEW = "fake-dense}", "fake-dense, seed: 1}"
ASKED = ("search", "hunts mice", "--only", "dense", "--json")


def write(config: Path, encoder: str) -> None:
    """The config with this dense encoder."""
    text = config.read_text()
    config.write_text(text.replace(OLD, encoder) if OLD in text else text.replace(NEW, encoder))


@pytest.fixture
def filled(run: Run, config: Path, tmp_path: Path) -> Run:
    """40 documents, in chunks of 4, with judged queries."""
    texts = [f"number {n} tells of topic{n % 7} and thing{n}" for n in range(39)] + ["the owl hunts mice at night"]
    lines = "".join(json.dumps({"id": str(n), "text": text}) + "\n" for n, text in enumerate(texts))
    (tmp_path / "corpus.jsonl").write_text(lines)
    (tmp_path / "queries.jsonl").write_text(
        "".join(f'{{"_id": "q{n}", "text": "thing{n} topic{n}"}}\n' for n in range(5))
    )
    (tmp_path / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(f"q{n}\t{n}\t1\n" for n in range(5)))
    judged = "evaluate: {queries: queries.jsonl, qrels: qrels.tsv, metrics: [nDCG@3]}\n"
    config.write_text(config.read_text() + "populate: {chunk: 4}\nswap: {gate: {margin: 0.9}}\n" + judged)
    assert run("populate", "corpus.jsonl").code == 0
    return run


class Interruption:
    """A progress that stops the work after the first piece."""

    def __init__(self) -> None:
        self.stopped = threading.Event()

    def begin(self, stage: str, total: int | None) -> None:
        """Nothing."""

    def advance(self, stage: str, n: int) -> None:
        """Stop."""
        self.stopped.set()


@pytest.fixture
def under_way(filled: Run, config: Path, registry: Registry) -> Run:
    """An apply that was stopped in the middle; the config is the one that began it."""
    write(config, NEW)
    interruption = Interruption()
    with Collection.stored(config, registry=registry) as collection:
        collection.apply(config, progress=interruption, stopped=interruption.stopped)
    missing = filled("status", "--json").json()["vectors"][2]["missing"]
    assert 0 < missing < 40
    return filled


def found(answer: Any) -> str:
    assert answer.code == 0, answer.err
    return str(answer.json()["queries"][0]["hits"][0]["id"])


def more(folder: Path) -> Path:
    """One document more than the corpus."""
    path = folder / "more.jsonl"
    path.write_text((folder / "corpus.jsonl").read_text() + '{"id": "new", "text": "a whale sings in the sea"}\n')
    return path


HOLDERS = {
    "a notebook": "from diptych import Collection; held = Collection.open('diptych.yaml', registry=fakes); input()",
    "serve": "main(['serve', '--port', '0'], session=Session(fakes))",
    "mcp": "main(['serve', '--mcp'], session=Session(fakes))",
}


@pytest.mark.slow
@pytest.mark.parametrize("holder", HOLDERS)
def test_commands_do_their_work_while_another_process_has_the_embedded_store_open(
    filled: Run, config: Path, tmp_path: Path, holder: str
) -> None:
    address = tmp_path / "qdrant" / ".address"
    command = [sys.executable, "-c", COMMAND + HOLDERS[holder]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        try:
            until = time.monotonic() + 60
            while not address.exists():  # until the other process has opened the store
                assert other.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            assert found(filled(*ASKED)) == "39"
            assert filled("populate", more(tmp_path), "--json").json()["new"] == 1
            write(config, NEW)
            assert filled("plan", "--json").json()["pending"]
            assert filled("status").code == filled("info").code == 0
            answer = filled("apply", "--no-gate")
            assert answer.code == 0, answer.err
            assert found(filled("search", "a whale sings in the sea", "--only", "dense", "--json")) == "new"
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.parametrize("encoder", [OLD, NEW])
def test_under_way_a_populate_by_either_config_writes_both_vectors(
    under_way: Run, config: Path, tmp_path: Path, encoder: str
) -> None:
    before = {own["vector"]: own["missing"] for own in under_way("status", "--json").json()["vectors"]}
    write(config, encoder)
    assert under_way("populate", more(tmp_path), "--json").json()["new"] == 1
    status = under_way("status", "--json").json()
    assert status["documents"] == 41
    assert {own["vector"]: own["missing"] for own in status["vectors"]} == before
    write(config, NEW)
    assert under_way("apply").code == 0
    answer = under_way("search", "whale sings", "--only", "dense", "--json")
    assert found(answer) == "new"
