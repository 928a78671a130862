"""Errors, exit codes, help: what is the same for every command."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any

import pytest
import typer
from rich.console import Console
from typer.main import get_command
from typer.testing import CliRunner

from diptych import __version__
from diptych.cli import app
from diptych.cli.output import error_document
from diptych.cli.run_command import command
from diptych.errors import ConfigError

Run = Callable[..., Any]
COMMANDS = [
    " ".join(filter(None, (name, inner)))
    for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
    for inner in getattr(command, "commands", {"": None})
]


def fails(as_json: Annotated[bool, typer.Option("--json")] = False, how: str = "") -> None:
    """Fails in the way that is asked for."""
    raise {
        "teach": ConfigError("what", where="where", got="got", expected="expected", do="do"),
        "fault": ZeroDivisionError("division by zero"),
        "interrupt": KeyboardInterrupt(),
        "usage": typer.BadParameter("not like this"),
        "leave": typer.Exit(7),
    }[how]


@pytest.fixture
def failing() -> typer.Typer:
    toy = typer.Typer(pretty_exceptions_enable=False)
    toy.callback()(lambda: None)
    command(toy, "fails", fails)
    return toy


@pytest.mark.parametrize(
    ("how", "code", "text"),
    [
        ("teach", 1, "error: what\n  where: where\n  got: got\n  expected: expected\n  do: do\n"),
        ("fault", 1, "ZeroDivisionError: division by zero\n  do: run it again with --debug"),
        ("interrupt", 130, "interrupted"),
        ("usage", 2, "not like this"),
        ("leave", 7, ""),
    ],
)
def test_each_way_to_fail_has_its_exit_code_and_text(failing: typer.Typer, how: str, code: int, text: str) -> None:
    result = CliRunner().invoke(failing, ["fails", "--how", how])
    assert result.exit_code == code
    assert text in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output


@pytest.mark.parametrize("how", ["teach", "fault"])
def test_debug_lets_the_error_through_with_its_traceback(failing: typer.Typer, how: str) -> None:
    result = CliRunner().invoke(failing, ["fails", "--how", how, "--debug"])
    assert isinstance(result.exception, ConfigError | ZeroDivisionError)


def test_an_error_as_json_has_its_parts_and_its_single_problems() -> None:
    error = ConfigError("2 problems", problems=(ConfigError("a", got="x"), ConfigError("b")))
    error.add_note("what was acknowledged is kept")
    assert error_document(error) == {
        "kind": "ConfigError",
        "what": "2 problems",
        "notes": ["what was acknowledged is kept"],
        "problems": [{"kind": "ConfigError", "what": "a", "got": "x"}, {"kind": "ConfigError", "what": "b"}],
    }


def test_on_a_terminal_an_error_breaks_between_words_and_keeps_its_indent() -> None:
    from diptych.cli.output import drawing, write_error

    screen = io.StringIO()
    expected = "a duration such as 300ms, 2s, 5m, 12h, 30d or 2w; a number counts seconds"
    with drawing(Console(file=screen, force_terminal=True, width=80, no_color=True, highlight=False)):
        write_error(ConfigError("unusable value", got="90 days", expected=expected), as_json=False)
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip() for line in screen.getvalue().splitlines()]
    assert lines == [
        "error: unusable value",
        "  got: 90 days",
        "  expected: a duration such as 300ms, 2s, 5m, 12h, 30d or 2w; a number counts",
        "  seconds",
    ]


def test_every_command_has_help_with_examples_that_name_it(run: Run) -> None:
    for name in COMMANDS:
        answer = run(*name.split(), "--help")
        assert answer.code == 0, name
        assert f"diptych {name}" in answer.out.partition("Examples")[2]
        assert {"--json", "--debug"} <= set(answer.out.split()), name
        assert "<class" not in answer.out, "a type of Python"


def test_the_version_is_that_of_the_package(run: Run) -> None:
    assert run("--version").out.strip() == f"diptych {__version__}"


def test_help_loads_no_library_of_models_or_figures() -> None:
    code = (
        "import sys; from diptych.cli import main\n"
        "try:\n    main(['--help'])\n"
        "finally:\n    heavy = {'torch', 'sentence_transformers', 'scipy', 'matplotlib', 'ir_measures', 'pandas'}\n"
        "    sys.exit(9 if heavy & set(sys.modules) else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(find_spec("triton") is None, reason="PyTorch comes without triton here")
def test_a_command_that_loaded_triton_ends_without_a_list_of_leaks() -> None:
    code = "import sys, triton._C.libtriton\nsys.argv[1:] = ['--version']\nfrom diptych.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_a_reader_that_goes_away_ends_the_command_quietly() -> None:
    code = (
        "import sys, typer; from diptych.cli.run_command import command\n"
        "def many(as_json: bool = False) -> None:\n"
        "    for n in range(200_000): sys.stdout.write(f'{n}\\n')\n"
        "app = typer.Typer(); app.callback()(lambda: None); command(app, 'many', many); app(['many'])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read()
    process.stderr.close()
    assert (process.wait(), error) == (141, b"")


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_a_command_with_130_and_no_traceback() -> None:
    code = (
        "import time, typer; from diptych.cli.run_command import command\n"
        "def sleep(as_json: bool = False) -> None:\n"
        "    print('ready', flush=True); time.sleep(60)\n"
        "app = typer.Typer(); app.callback()(lambda: None); command(app, 'sleep', sleep); app(['sleep'])\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (130, "interrupted\n")
