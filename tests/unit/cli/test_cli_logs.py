"""`--verbose` and `--log-level`: what is logged, where, and that no secret is in it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from diptych.runtime.phases import phase, watched

Run = Callable[..., Any]


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
        "from diptych.media.decode import check_image\n"
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
