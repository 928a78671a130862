"""Sessions of commands: each command, what it prints and its exit code stand once, in sessions.json beside this file.

`~ OLD => NEW` edits the config, `<<< TEXT` is standard input; | is a line's end in both. What
differs from run to run is replaced.
`DIPTYCH_SNAPSHOTS=write` runs the commands of the file and writes it anew: add `{"command": "..."}` to a session and
run this. Its diff is what a change does to what users read.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli_values import ANIMALS, CONFIG, HeavyPlugin
from diptych import Registry
from diptych.cli import app
from diptych.cli.run_command import Session
from diptych.testing import fakes_plugin

SNAPSHOT = Path(__file__).with_name("sessions.json")
SESSIONS: dict[str, list[dict[str, Any]]] = json.loads(SNAPSHOT.read_text("utf-8"))
HIDDEN = [
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::[\d.]+)?(?:Z|\+00:00| UTC)?", "DATE"),
    (r"(?<=by )\S+@[^\s,;()]+", "USER"),
    (r'(?<="by": ")[^"]+|(?<="holder": ")[^"]+', "USER"),
    (r'(?<="seconds": )[\d.]+|-?\d+\.\d{3,}(?:e-?\d+)?|\d+e-\d+', "#"),
    (r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,}\b", "HASH"),
    (r"(?:under )?\b\d[\d,.]* (?:ms|s|min)\b", "TIME"),
    (r"\d[\d,.]* (?:bytes|[kMG]B)\b", "SIZE"),
    (r'(?<="(?:disk|size)": )\d+|(?<="version": )\d+', "#"),
    (r"Python 3[^\"]*", "VERSIONS"),
    (r" +\n", "\n"),
]


def shown(text: str, folder: Path) -> list[str]:
    """The lines of an output without what differs from run to run."""
    text = text.replace(str(folder), ".")
    for pattern, name in HIDDEN:
        text = re.sub(pattern, name, text)
    lines = [re.sub(r"(?<=\S)  +", "  ", line.rstrip()) for line in text.splitlines()]
    return [line for line in lines if not line.endswith(" ...")]


@pytest.mark.parametrize("name", SESSIONS)
def test_each_command_of_a_session_prints_what_its_snapshot_says(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIPTYCH_CACHE", "off")
    kinds = {"owl": ("bird", 2), "hen": ("bird", 2), "cat": ("mammal", 4), "dog": ("mammal", 4)}
    rows = [{"id": k, "text": text, "kind": kinds[k][0], "legs": kinds[k][1]} for k, text in ANIMALS.items()]
    asked = [{"_id": f"q{n}", "text": " ".join(t.split()[1:4])} for n, t in enumerate([*ANIMALS.values()] * 15)]
    judged = [f"q{n}\t{[*ANIMALS][n % 4]}\t1" for n in range(60)]
    head = "query-id\tcorpus-id\tscore\n"
    files = {
        "diptych.yaml": CONFIG,
        "animals.jsonl": "\n".join(map(json.dumps, rows)),
        "bad.jsonl": '{"id": "void", "text": "  "}\n',
        "few.csv": "id,text,kind,legs\nfox,the fox is quick,mammal,4\n",
        "queries.jsonl": "\n".join(map(json.dumps, asked)),
        "qrels.tsv": head + "\n".join(judged),
        "one.tsv": head + judged[0],
        "lacking.tsv": head + judged[0] + "\nq1\tyak\t1\nq2\temu\t2\nq2\tgnu\t0\n",
        "beir, small/queries.jsonl": "\n".join(map(json.dumps, asked)),
        "beir, small/qrels/test.tsv": head + "\n".join(judged),
    }
    for file, text in files.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(text)
    (tmp_path / "empty").mkdir()
    session, found = Session(Registry(fakes_plugin, HeavyPlugin, installed=False)), list[dict[str, Any]]()
    for line in (row["command"] for row in SESSIONS[name]):
        if line.startswith("~"):
            old, _, new = line.removeprefix("~ ").replace("|", "\n").partition(" =>")
            config = Path("diptych.yaml").read_text()
            assert old in config, line
            Path("diptych.yaml").write_text(config.replace(old, new.removeprefix(" ")))
            found.append({"command": line})
            continue
        command, _, typed = line.partition(" <<< ")
        environment = {"COLUMNS": "160", "SECRET": "s3cret"}
        typed = typed.replace("|", "\n")
        result = CliRunner().invoke(app, shlex.split(command), obj=session, env=environment, input=typed or None)
        assert "unexpected error" not in result.stderr, result.stderr
        err = shown(result.stderr, tmp_path)
        out = {"command": line, "code": result.exit_code, "out": shown(result.stdout, tmp_path)}
        found.append(out | ({"err": err} if err else {}))
    if os.environ.get("DIPTYCH_SNAPSHOTS") == "write":
        SESSIONS[name] = found
        SNAPSHOT.write_text(json.dumps(SESSIONS, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for now, before in zip(found, SESSIONS[name], strict=True):
        assert now == before
