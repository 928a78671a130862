from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML

from diptych import Registry
from diptych.cli.train import flat_options
from diptych.errors import ConfigError
from diptych.factory import load_object
from diptych.training import load_recipe
from diptych_training.options import NegativesOptions
from diptych_training.recipes.cprd import CprdOptions

RECIPES = [spec.name for spec in Registry.default().recipes.sorted()]
DATA = {"corpus": "c", "queries": "q", "qrels": "j"}


def options_of(name: str) -> type[BaseModel]:
    found: type[BaseModel] = load_object(Registry.default().recipes.get(name).options, where=name)
    return found


def smallest(name: str) -> dict[str, Any]:
    """The options that the recipe requires, and nothing else."""
    given: dict[str, Any] = {"recipe": name, "model": "m", "output": "o", "data": DATA}
    if name in ("image_text", "sound_text", "video_text"):
        given["data"] = {"items": "i"}
    teacher = {"teacher": {"adapter": "cross-encoder"}}
    own: dict[str, dict[str, Any]] = {
        **dict.fromkeys(("distill", "cprd"), teacher),
        "pretrain": {"model": "new", "data": {"corpus": "c"}},
        "elastic": {"elastic": {"layers": [1]}},
        "multi_exit": {"exits": {"layers": [1]}},
    }
    return given | own.get(name, {})


@pytest.mark.parametrize("name", RECIPES)
def test_every_default_that_is_listed_is_accepted_when_it_is_written_down(name: str) -> None:
    given, registry = smallest(name), Registry.default()
    load_recipe(given, registry)
    refused, accepted = {}, 0
    for option, facts, _ in flat_options(options_of(name).model_json_schema()):
        if facts.get("default") is None:
            continue
        try:
            load_recipe(given, registry, changes={option: facts["default"]})
            accepted += 1
        except ConfigError as error:
            refused[option] = str(error)
    assert not refused
    assert accepted > 10


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ar2", ("training.epochs", "training.lora.rank", "negatives.relative", "data.synthetic.cut")),
        ("cross_encoder", ("negatives.relative", "prompts.query")),
        ("dexml", ("negatives.per_query",)),
        ("student", ("training.mini_batch_size",)),
        ("uni_encoder", ("training.mini_batch_size",)),
    ],
)
def test_an_option_that_a_recipe_always_refuses_is_not_listed(name: str, options: tuple[str, ...]) -> None:
    listed = [option for option, *_ in flat_options(options_of(name).model_json_schema())]
    assert "training.learning_rate" in listed
    assert not {*options} & {*listed}


@pytest.mark.parametrize("name", RECIPES)
def test_a_section_that_says_nothing_is_the_section_left_out(name: str) -> None:
    seen = 0
    for field in options_of(name).model_fields.values():
        section: Any = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel) and field.default_factory is not None:
            assert section() == field.get_default(call_default_factory=True)
            seen += 1
    assert seen > 0


def test_ranks_that_are_no_window_are_refused_when_options_are_read() -> None:
    with pytest.raises(ValidationError, match="first_rank 9 is behind last_rank 3"):
        NegativesOptions(first_rank=9, last_rank=3)


def test_one_option_of_a_section_leaves_the_recipes_own_defaults() -> None:
    known: dict[str, Any] = {"model": "m", "output": "o", "data": DATA}
    order = CprdOptions.model_validate(
        {**known, "negatives": {"last_rank": 50}, "teacher": {"adapter": "cross-encoder"}}, strict=False
    )
    assert (order.negatives.per_query, order.negatives.last_rank) == (16, 50)


def test_cprd_refuses_options_of_the_order_where_another_part_is_taught() -> None:
    given = {"recipe": "cprd", "model": "m", "output": "o", "data": DATA, "teacher": {"adapter": "cross-encoder"}}
    load_recipe({**given, "loss": {"kind": "scores", "weight": 0.3}}, Registry.default())
    with pytest.raises(ConfigError, match=r"(?s)loss\.top.*loss\.kind order alone, not scores.*leave it out"):
        load_recipe({**given, "loss": {"kind": "scores", "top": 0.5}}, Registry.default())


def test_a_teacher_that_is_missing_is_asked_for_in_both_forms_and_both_can_be_used() -> None:
    given = {"recipe": "cprd", "model": "m", "output": "o", "data": DATA}
    with pytest.raises(ConfigError, match="'teacher' is missing") as caught:
        load_recipe(given, Registry.default())
    forms = re.findall(r"`(\{.+?\})`", caught.value.do)
    teachers = [YAML(typ="safe").load(form) for form in forms]
    assert [sorted(teacher) for teacher in teachers] == [["adapter", "options"], ["scores"]]
    for teacher in teachers:
        load_recipe({**given, "teacher": teacher}, Registry.default())


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("cprd", "cross-encodr", "a registered reranker: cross-encoder, .*another package"),
        ("student", "sentence-transformer", "a registered dense encoder: .*sentence-transformers"),
    ],
)
def test_a_teachers_adapter_that_does_not_exist_is_refused_by_its_key_when_options_are_read(
    name: str, given: str, expected: str
) -> None:
    data = {"corpus": "c"} if name == "student" else DATA
    options = {"recipe": name, "model": "m", "output": "o", "data": data, "teacher": {"adapter": given}}
    told = rf"(?s)where: config, teacher\.adapter\n  got: '{given}'\n  expected: {expected}"
    with pytest.raises(ConfigError, match=told):
        load_recipe(options, Registry.default())
