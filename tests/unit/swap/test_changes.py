"""How differing options are shown."""

from __future__ import annotations

from diptych.swap.changes import compared


def test_texts_of_spaces_and_line_breaks_are_quoted() -> None:
    then, now = {"separator": " ", "model": "a", "input": ("title", "text")}, {"separator": "\n\n", "model": "b c"}
    assert list(compared(then, now)) == [
        "separator: ' ' -> '\\n\\n'",
        "model: a -> b c",
        "input: ['title', 'text'] -> unset",
    ]
