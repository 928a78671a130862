"""What the outcomes of a swap's gate are to users of the command line: exit codes, sentences, a question."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from cli_values import COMMAND

Run = Callable[..., Any]
CONFIG = """\
store: edge:./qdrant
collection: c
slots:
  dense: {adapter: fake-dense}
"""
OTHER, BAD = "{adapter: fake-dense, dimension: 12, seed: 3}", "{adapter: fake-dense, dimension: 2}"
CODES = {"worse": 5, "undecided": 6, "not measured": 7}


@pytest.fixture
def changed(run: Run, tmp_path: Path) -> Run:
    """Sixty documents, and a config that names an encoder with which others of them are similar."""
    texts = [f"item{n} of topic{n % 7} with part{n % 11} and part{n % 13}" for n in range(60)]
    lines = [
        json.dumps({"id": f"d{n}", "title": f"item{n} topic{n % 7} part{n % 11}", "text": text})
        for n, text in enumerate(texts)
    ]
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    assert run("populate", "c.jsonl").code == 0
    name(tmp_path, OTHER)
    return run


def name(folder: Path, encoder: str, more: str = "") -> None:
    """Write a config with this encoder."""
    (folder / "diptych.yaml").write_text(CONFIG.replace("{adapter: fake-dense}", encoder) + more)


def judge(folder: Path, count: int) -> str:
    """Write judgements of so many queries, and return the lines of a config that name them."""
    queries = [json.dumps({"_id": f"q{n}", "text": f"item{n % 60} of topic{n % 7}"}) for n in range(count)]
    (folder / "queries.jsonl").write_text("\n".join(queries))
    rows = [f"q{n}\td{n % 60}\t1" for n in range(count)]
    (folder / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]))
    return "evaluate: {queries: queries.jsonl, qrels: qrels.tsv}\n"


def give(folder: Path, outcome: str) -> None:
    """Edit the config, so that the gate comes to this outcome."""
    queries = {"worse": 120, "undecided": 3, "not measured": 0}[outcome]
    patient = "swap: {gate: {seconds: 60}}\n"  # so that a busy machine compares as much each time
    name(folder, BAD if queries else OTHER, patient + (judge(folder, queries) if queries else ""))


@pytest.mark.parametrize("outcome", CODES)
def test_each_outcome_has_its_exit_code_and_is_said_wherever_the_swap_is_shown(
    changed: Run, tmp_path: Path, outcome: str
) -> None:
    give(tmp_path, outcome)
    answer = changed("apply")
    assert answer.code == CODES[outcome]
    (first,) = [line for line in answer.out.splitlines() if line.startswith("gate: ")]
    assert first.startswith(f"gate: {outcome}: {'no judgements; ' if outcome == 'not measured' else 'nDCG@10 '}")
    assert f"error: the gate keeps the old encoders: {outcome}\n" in answer.err
    sentence = first.removeprefix("gate: ")
    again = changed("apply", "--json")
    assert (again.code, again.json()["outcome"]) == (CODES[outcome], "not applied")
    assert (again.json()["gate"]["outcome"], again.json()["gate"]["sentence"]) == (outcome, sentence)
    status = changed("status", "--json").json()
    assert status["swap"]["refused"] == sentence
    assert sentence in changed("status").out
    assert [own["vector"] for own in status["vectors"] if own["role"] == "live"] == ["dense.1"]


def test_what_judgements_would_decide_is_advised_as_a_command_and_a_budget_where_it_cut_them(
    changed: Run, tmp_path: Path
) -> None:
    give(tmp_path, "undecided")
    advice = changed("apply").err.partition("  do: ")[2]
    assert " anew: diptych judge judgements --queries QUERIES.jsonl --sample " in advice
    assert changed("rollback").code == 0
    name(tmp_path, OTHER, "swap: {gate: {seconds: 0.000001}}\n" + judge(tmp_path, 100))
    answer = changed("apply")
    assert "8 of 100 judged queries were asked within 1e-06 s (swap.gate.seconds)" in answer.out
    advice = answer.err.partition("  do: ")[2]
    assert advice.startswith("raise swap.gate.seconds to 1, enough for all 100 judged queries, then diptych apply; or ")


def on_terminal(folder: Path, *arguments: str, answer: str = "", out: Path | None = None) -> tuple[int, str]:
    """The exit code and the screen of a user who types the answer; standard output may go to a file."""
    terminal, child = pty.openpty()
    command = [sys.executable, "-c", COMMAND, *arguments]
    stdout = child if out is None else os.open(out, os.O_WRONLY | os.O_CREAT)
    with subprocess.Popen(command, cwd=folder, stdin=child, stdout=stdout, stderr=child) as process:
        for end in {child, stdout}:
            os.close(end)
        said = b""
        with suppress(OSError):  # the other end is closed
            while piece := os.read(terminal, 4096):
                said += piece
                if said.endswith(b"[y/N]: "):
                    os.write(terminal, answer.encode() + b"\n")
    os.close(terminal)
    return process.returncode, said.decode()


@pytest.mark.parametrize(
    ("answer", "code", "live", "end"),
    [("y", 0, "dense.2", "c: cut over in "), ("n", 7, "dense.1", "the gate keeps the old encoders: not measured")],
)
def test_on_a_terminal_an_unmeasured_change_is_a_question_and_its_measurements_are_shown_once(
    changed: Run, tmp_path: Path, answer: str, code: int, live: str, end: str
) -> None:
    found, screen = on_terminal(tmp_path, "apply", answer=answer)
    assert found == code
    before, _, after = screen.partition("accept these changes without judgements? [y/N]: ")
    assert before.count("gate: not measured: no judgements; ") == before.count("documents, found by") == 1
    assert end in after
    assert "gate: not measured" not in after
    assert "documents, found by" not in after
    vectors = changed("status", "--json").json()["vectors"]
    assert [own["vector"] for own in vectors if own["role"] == "live"] == [live]


def test_nothing_is_asked_with_json_or_consent_or_without_a_terminal(changed: Run, tmp_path: Path) -> None:
    assert "[y/N]" not in changed("apply").out + changed("apply").err
    for arguments, out in ((("apply", "--json"), None), (("apply",), tmp_path / "out")):
        code, screen = on_terminal(tmp_path, *arguments, out=out)
        assert (code, "[y/N]" in screen) == (7, False), "the answers would not be seen"
    code, screen = on_terminal(tmp_path, "apply", "--unmeasured")
    assert (code, "[y/N]" in screen) == (0, False)
    assert "gate: not measured: no judgements; " in screen
