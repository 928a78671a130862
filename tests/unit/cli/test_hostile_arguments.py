"""Commands with arguments that nobody should give: each works, or says what is wrong; none fails unexpectedly.

DIPTYCH_FUZZ_COMMANDS says how many are tried.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from diptych import Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin
from mutations import NUMBERS, TEXTS, mutated

TRIES = int(os.environ.get("DIPTYCH_FUZZ_COMMANDS", "60"))
LEFT_OUT = {"serve", "studio", "train", "tune"}  # that run on, or train
KEPT = {"help", "debug", "engine", "workers", "worker_cpus", "worker_gpus", "download", "plot", "install_completion"}
CONFIG = """\
store: edge:./qdrant
collection: animals
slots:
  dense: {adapter: fake-dense}
  lexical: {adapter: fake-sparse}
search: {limit: 3}
cache: {enabled: false}
"""
FILTER = {"must": [{"key": "year", "range": {"gte": 1}}, {"key": "kind", "match": {"value": "x"}}]}
ARGUMENTS: dict[str, list[str]] = {
    "populate": ["docs.jsonl"], "search": ["cat"], "evaluate": ["--queries", "queries.jsonl",
    "--qrels", "qrels.tsv"],
    "delete": ["nothing", "--yes"],
    "adopt": ["--slot", "dense=fake-dense"], "copy": ["edge:./qdrant", "edge:./other"], "cache": ["info"],
    "init": ["--config", "new.yaml"],
}  # fmt: skip
FILES: dict[str, bytes] = {
    "docs.jsonl": b'{"id": "cat", "text": "the cat sleeps", "year": 3}\n{"id": "dog", "text": "the dog barks"}\n',
    "queries.jsonl": b'{"_id": "q", "text": "cat"}\n',
    "qrels.tsv": b"q\tcat\t1\n",
    "deep.jsonl": b"[" * 50_000 + b"\n" + b'{"a":' * 50_000 + b"\n",
    "surrogates.jsonl": b'{"id": "\\ud800", "text": "\\udfff"}\n{"_id": "\\ud800", "text": "a"}\n',
    "digits.tsv": b"q\tcat\t" + b"9" * 5000 + b"\n",
    "binary.jsonl": bytes(range(256)) * 50,
    "binary.csv": b"id,text\n" + bytes(range(256)) * 50,
    "empty.jsonl": b"", "empty.csv": b"", "empty.tsv": b"", "empty.yaml": b"",
    "broken.jsonl.gz": gzip.compress(b'{"id": "1", "text": "a"}\n' * 1000)[:60],
    "nothing.parquet": b"PAR1", "bomb.yaml": b"a: &a [x, x]\nb: [*a, *a]\n",
    "latin.csv": "id,text\n1,\xe9\n".encode("latin-1"),
}  # fmt: skip
VALUES = [
    # Nothing that leads out of the test's folder: some commands write.
    *(text for text in TEXTS if not text.startswith(("/", "..", "C:")) and "\0" not in text),
    *(str(number) for number in NUMBERS if not isinstance(number, int) or number.bit_length() < 2000),
    *FILES, ".", "folder", "missing.jsonl", "dense", "lexical", "dense,lexical", "a=b", "year=1e999", "=", "id",
    "text", "json", "9" * 5000,
    "nDCG@10", "nDCG@" + "9" * 30, "nDCG@-1", "RR(rel=99999999999)", "P@0", "q1:x", "{}", "[]", "null", "{" * 5000,
    "[" * 100_000,
]  # fmt: skip


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    (tmp_path / "folder").mkdir()
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return CliRunner()


def commands() -> dict[str, Any]:
    """The commands by their names, as typer makes them."""
    group: Any = typer.main.get_command(app)
    return {name: command for name, command in group.commands.items() if name not in LEFT_OUT}


def arguments(name: str, command: Any, chance: random.Random) -> list[str]:
    """The command's right arguments, and one to three that may be anything."""
    given = list(ARGUMENTS.get(name, []))
    if given and chance.random() < 0.4:
        given[chance.randrange(len(given))] = chance.choice(VALUES)
    for parameter in chance.sample(command.params, min(len(command.params), chance.choice([1, 1, 2, 3]))):
        if parameter.name in KEPT:
            continue
        if parameter.param_type_name == "argument":
            given += [chance.choice(VALUES)]
        elif parameter.is_flag:
            given += [chance.choice([*parameter.opts, *parameter.secondary_opts])]
        else:
            given += [parameter.opts[0], odd_value(str(parameter.name), chance)]
    return given


def odd_value(name: str, chance: random.Random) -> str:
    if name == "filter" and chance.random() < 0.8:
        try:
            return json.dumps(mutated(FILTER, chance))
        except (RecursionError, ValueError):
            return "{"
    return str(chance.choice(VALUES))


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_command_with_odd_arguments_works_or_says_what_is_wrong(runner: CliRunner) -> None:
    chance, session = random.Random(17), Session(Registry(fakes_plugin, installed=False))
    assert runner.invoke(app, ["populate", "docs.jsonl"], obj=session).exit_code == 0
    found, codes, faults = commands(), set[Any](), list[str]()
    for number in range(TRIES):
        name = chance.choice(sorted(found))
        given = arguments(name, found[name], chance)
        result = runner.invoke(app, [name, *given], obj=session)
        codes.add(result.exit_code)
        ended = result.exception is None or isinstance(result.exception, SystemExit)
        if not ended or "unexpected error" in result.stderr or "Traceback" in result.stderr:
            told = f"{result.exception!r}, {result.stderr[-300:]!r}"
            faults.append(f"command {number}: {name} {ascii(given)[:300]}: {ascii(told)[:600]}")
    assert faults == []
    assert {0, 1, 2} <= codes  # some worked, some were refused
