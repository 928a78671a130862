"""`--verbose` and `--log-level`: what is logged, where, and that no secret is in it; a terminal sees what is done."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diptych.runtime.phases import phase, watched

Run = Callable[..., Any]


@pytest.fixture
def filled(run: Run, config: Path, corpus: Path) -> Run:
    assert run("populate", str(corpus)).code == 0
    return run


@pytest.mark.parametrize("words", [("--verbose",), ("-v",), ("--log-level", "info")])
def test_verbose_tells_the_phases_with_their_seconds_on_standard_error(filled: Run, words: tuple[str, ...]) -> None:
    answer = filled(*words, "search", "cats", "--json")
    assert answer.code == 0
    assert answer.json()["queries"]
    for what in ("open the collection", r"slot 'dense': load fake-dense", "compare fingerprint and canaries"):
        assert re.search(rf"INFO +diptych\.phases: .*{what}.*: \d+\.\d\d s\n", answer.err), what
    assert "DEBUG" not in answer.err


def test_no_secret_is_logged(filled: Run, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "s3cret-value")
    text = config.read_text()
    config.write_text(text.replace("fake-dense}", "fake-dense, expand: {api_key: '${SECRET}', token: plain-s3cret}}"))
    for command in (("search", "cats"), ("plan",), ("doctor",)):
        answer = filled("--log-level", "debug", *command)
        assert "s3cret" not in answer.err, command


def test_phases_within_phases_are_told_to_whoever_watches() -> None:
    told: list[str] = []
    with watched(told.append):
        with phase("outer"), phase("inner"):
            told.append("work")
        with pytest.raises(ValueError, match="broken"), phase("failing"):
            raise ValueError("broken")
    with phase("unseen"):
        pass
    assert told == ["outer", "inner", "work", "outer", "", "failing", ""]


PROGRAM = """
import time
import rich.live
from diptych.cli.output import stderr
from diptych.cli.output import Bars, waiting
from diptych.runtime.phases import phase
import logging, sys, warnings
from diptych.cli.run_command import show
show("info")
draw, drawings = rich.live.Live.refresh, []
def counted(live):
    draw(live)
    drawings.append(live)
rich.live.Live.refresh = counted
def drawn():
    # the one that is just being made may show what was before
    wanted = len(drawings) + 2
    while len(drawings) < wanted:
        time.sleep(0.01)
with waiting("opening it"):
    drawn()
    with phase("a phase of it"):
        drawn()
with Bars("loading it") as bars:
    drawn()
    bars.begin("fill", 10)
    for n in range(10):
        bars.advance("fill", 1)
        logging.getLogger("diptych").warning("line %d", n)
        stderr().print(f"said {n}")
        print(f"printed {n}", file=sys.stderr)
        warnings.warn(f"warned {n}")
        time.sleep(0.05)
    with phase("a last phase"):
        drawn()
"""


def screen(code: str) -> str:
    """What a program writes to a terminal of 100 columns."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "100", "LINES": "40", "TERM": "xterm"}
    process = subprocess.Popen(
        [sys.executable, "-W", "always", "-c", code], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    found = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:  # Linux: the other side was closed
            break
        if not piece:
            break
        found += piece
    os.close(ours)
    assert process.wait() == 0, found.decode()
    return found.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals")
def test_a_terminal_sees_each_phase_and_bars_are_never_garbled() -> None:
    raw = screen(PROGRAM)
    for text in ("opening it", "a phase of it", "loading it", "encoding", "a last phase"):
        assert text in raw, text
    lines = displayed(raw)
    for n in range(10):
        for kind in ("said", "printed"):
            assert f"{kind} {n}" in lines  # alone on its line
        assert sum(line.endswith(f"diptych: line {n}") for line in lines) == 1
        assert sum(f"UserWarning: warned {n}" in line for line in lines) == 1
    assert sum("encoding" in line for line in lines) == 1
    assert sum("10/10" in line for line in lines) == 1


def displayed(raw: str) -> list[str]:
    """The lines that stay on a terminal: of its commands, those that rich gives to draw bars."""
    lines, row, column = [""], 0, 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", raw):
        if part == "\r":
            column = 0
        elif part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.startswith("\x1b"):
            if part.endswith("A"):
                row -= int(part[2:-1] or 1)
            elif part.endswith("K"):
                lines[row] = "" if part[2:-1] == "2" else lines[row][:column]
        else:
            lines[row] = lines[row][:column].ljust(column) + part + lines[row][column + len(part) :]
            column += len(part)
    return [line.rstrip() for line in lines]


def test_a_command_shows_diptychs_own_warnings_without_their_line_of_code() -> None:
    program = (
        "import warnings\n"
        "from diptych.cli.run_command import show_warnings\n"
        "from diptych.errors import InsecureKeyWarning\n"
        "show_warnings()\n"
        "warnings.warn('the key is exposed', InsecureKeyWarning)\n"
        "warnings.warn('of another library', UserWarning)\n"
    )
    shown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stderr
    assert shown.splitlines()[:2] == ["warning: the key is exposed", "<string>:6: UserWarning: of another library"]


def test_pillows_warning_of_a_large_picture_is_not_shown_beside_diptychs_error() -> None:
    program = (
        "import io\n"
        "from PIL import Image\n"
        "from diptych.cli.run_command import show_warnings\n"
        "from diptych.media.values import MediaConfig\n"
        "from diptych.media.pictures import check_image\n"
        "file = io.BytesIO()\n"
        "Image.new('1', (12000, 8000)).save(file, 'PNG')\n"
        "show_warnings()\n"
        "try:\n"
        "    check_image(file.getvalue(), MediaConfig(), 'large.png')\n"
        "except Exception as error:\n"
        "    print(error.got)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("12,000 x 8,000 pixels\n", "")
