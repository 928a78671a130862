"""Commands that are refused: each with its exit code and its error stands once, in refusals.json beside this file.

`DIPTYCH_SNAPSHOTS=write` runs the commands of the file and writes it anew: add `"COMMAND": {}` to it and run this. Its
diff is what a change does to what users read.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli_values import ANIMALS, CONFIG, HeavyPlugin
from diptych import Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin

SNAPSHOT = Path(__file__).with_name("refusals.json")


@pytest.fixture(scope="module")
def invoke(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """Run a command line in a folder with a filled collection; what it answers, without the folder's path."""
    folder, session = tmp_path_factory.mktemp("filled"), Session(Registry(fakes_plugin, HeavyPlugin, installed=False))

    def run(line: str) -> Any:
        words = shlex.split(line)
        given = words if line.startswith(("--", "serach")) else [*words, "--json"]
        result = CliRunner().invoke(app, given, obj=session, env={"COLUMNS": "160"}, prog_name="diptych")
        assert "Traceback" not in result.output
        if result.exit_code == 2:
            lines = [text.strip(" │") for text in result.stderr.splitlines() if text.startswith("│")]
            return {"code": 2, "usage": lines}
        error = json.loads(result.stderr.replace(str(folder), "."))["error"] if result.stderr else result.stdout
        return {"code": result.exit_code, "error": error}

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "diptych.yaml").write_text(CONFIG)
        lines = [json.dumps({"id": key, "text": text, "legs": 4}) for key, text in ANIMALS.items()]
        (folder / "animals.jsonl").write_text("\n".join(lines))
        (folder / "wrong.jsonl").write_text('{"id": "new", "text": "other"}\n')
        (folder / "books.csv").write_text("key,text\n1,words\n")
        (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "cat"}\n{"_id": "q2", "text": "owl"}\n')
        (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tcat\t1\nq2\towl\t1\n")
        assert run("populate animals.jsonl")["code"] == 0
        yield run


def test_each_refused_command_answers_as_its_snapshot_says(invoke: Callable[[str], Any]) -> None:
    known = json.loads(SNAPSHOT.read_text("utf-8"))
    found = {line: invoke(line) for line in known}
    assert [line for line, answer in found.items() if answer["code"] == 0] == []
    if os.environ.get("DIPTYCH_SNAPSHOTS") == "write":
        known = found
        SNAPSHOT.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    assert {line: answer for line, answer in found.items() if known.get(line) != answer} == {}
    assert invoke("info")["error"].count('"documents": 4') == 1, "what is refused changes nothing"
