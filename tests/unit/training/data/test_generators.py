"""Generators are asked through the hooks, and answers that are none are refused."""

from __future__ import annotations

from typing import Any

import pytest

from diptych import Document, Registry, hookimpl
from diptych.errors import ConfigError, ContractError, RegistryError
from diptych.generation import JudgeRequest, QueryRequest
from diptych_training import hooks
from diptych_training.data.generators import STYLES, Generator

SOX = Document("sox", "Converts audio files. It knows many formats! Effects can be added.", "Sound exchange")
GIMP = Document("gimp", "Retouches photographs and composes pictures from many layers.")
TEMPLATES = Generator("templates", registry=Registry(hooks, installed=False))


class Fixed:
    """Answers what it is told to, for its own name alone."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.seen = answer, list[Any]()

    @hookimpl
    def diptych_generate_queries(self, request: QueryRequest) -> Any:
        self.seen.append(request)
        return self.answer if request.generator == "fixed" else None


def fixed(answer: Any) -> Generator:
    return Generator("fixed", {"heat": 1}, registry=Registry(Fixed(answer), hooks, installed=False))


def test_a_plugins_generator_is_asked_beside_the_built_in_ones() -> None:
    plugin = Fixed([["  one\n query ", "", "two", "three"], []])
    asked = Generator("fixed", {"heat": 1}, registry=Registry(plugin, hooks, installed=False))
    assert asked.queries([SOX, GIMP], style="odd", count=2, seed=7) == [["one query", "two"], []]
    assert plugin.seen == [QueryRequest("fixed", (SOX, GIMP), "odd", 2, 7, {"heat": 1})]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([["a"]], r"1 answers.*2, one for each"),
        (["ab", ["c"]], r"'ab' for document 0.*a list of texts"),
        ([["a"], [1]], r"\[1\] for document 1"),
    ],
)
def test_queries_that_are_none_are_refused(answer: Any, said: str) -> None:
    with pytest.raises(
        ContractError, match=rf"(?s)'fixed' returned an unexpected answer.*diptych_generate_queries.*{said}"
    ):
        fixed(answer).queries([SOX, GIMP])


def test_a_generator_that_nobody_has_is_named_and_nothing_is_asked_for_nothing() -> None:
    unknown = Generator("nobody", registry=Registry(hooks, installed=False))
    with pytest.raises(RegistryError, match=r"(?s)no plugin has a generator called 'nobody'.*templates, chat"):
        unknown.queries([SOX])
    assert unknown.queries([]) == []


@pytest.mark.parametrize("style", STYLES)
def test_templates_write_at_most_so_many_different_queries_and_the_same_again(style: str) -> None:
    for count in (1, 3):
        found = TEMPLATES.queries([SOX, GIMP], style=style, count=count)
        assert found == TEMPLATES.queries([SOX, GIMP], style=style, count=count)
        assert all(1 <= len(own) == len(set(own)) <= count for own in found)


def test_templates_take_titles_sentences_and_heavy_words() -> None:
    def said(style: str, count: int = 1) -> list[list[str]]:
        return TEMPLATES.queries([SOX, GIMP], style=style, count=count)

    assert said("title") == [["Sound exchange"], [GIMP.text]]
    assert said("claim", 5)[0] == ["Converts audio files.", "It knows many formats!", "Effects can be added."]
    assert (said("first")[0], said("last")[0]) == (["Converts audio files."], ["Effects can be added."])
    assert "many" not in said("keywords")[0][0], "both documents say it"
    assert said("question")[0][0].startswith("what is ")


def test_templates_judge_by_shared_words() -> None:
    pairs = (("audio pictures", SOX.text), ("audio", SOX.text), ("xy", ""))
    request = JudgeRequest("templates", pairs, {})
    assert Registry(hooks, installed=False).hook.diptych_judge(request=request) == [0.5, 1.0, 0.0]


def test_templates_refuse_unknown_styles_and_options() -> None:
    with pytest.raises(ConfigError, match=r"(?s)unknown style.*haiku.*question, keywords"):
        TEMPLATES.queries([SOX], style="haiku")
    with pytest.raises(ConfigError, match=r"(?s)unknown options.*\['heat'\]"):
        Generator("templates", {"heat": 1}, registry=Registry(hooks, installed=False)).queries([SOX])
