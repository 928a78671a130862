"""How differing options are shown."""

from __future__ import annotations

from diptych.swap.changes import compared


def test_texts_of_spaces_and_line_breaks_are_quoted() -> None:
    then, now = {"separator": " ", "model": "a", "input": ("title", "text")}, {"separator": "\n\n", "model": "b c"}
    assert list(compared(then, now)) == [
        "separator: ' ' -> '\\n\\n'",
        "model: a -> b c",
        "input: [title, text] -> unset",
    ]


def test_sections_are_shown_as_in_a_config_without_what_is_not_set() -> None:
    stage = {"adapter": "cross-encoder", "weight": 1.0, "deadline": None, "options": {"model": "./m", "prompt": "q"}}
    assert list(compared({"rerank": []}, {"rerank": [stage]}, "search.")) == [
        "search.rerank: [] -> [{adapter: cross-encoder, weight: 1.0, options: {model: ./m, prompt: q}}]"
    ]
