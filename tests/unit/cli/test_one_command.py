"""`main` builds only the command that is named; nobody sees a difference from the whole application."""

from __future__ import annotations

import pytest

from diptych.cli.app import _with_command, app, main

ALONE = [one.name for one in app.registered_commands if one.name]


def printed(capsys: pytest.CaptureFixture[str], args: list[str], *, whole: bool) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as left:
        app(args=args, prog_name="diptych") if whole else main(args)
    said = capsys.readouterr()
    return left.value.code, said.out, said.err


@pytest.mark.parametrize("args", [[name, "--help"] for name in ALONE] + [["search", "--nonsense"], ["plan", "extra"]])
def test_a_command_alone_says_what_it_says_among_the_others(
    capsys: pytest.CaptureFixture[str], args: list[str]
) -> None:
    assert len(_with_command(args).registered_commands) == 1
    assert printed(capsys, args, whole=False) == printed(capsys, args, whole=True)


@pytest.mark.parametrize("args", [[], ["--help"], ["serach"], ["tune"], ["--verbose", "search"], ["tune", "--help"]])
def test_all_commands_are_there_where_none_is_named_first(args: list[str]) -> None:
    assert _with_command(args) is app
