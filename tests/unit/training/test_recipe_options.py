from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML

from diptych import Registry
from diptych.cli.train import flat_options
from diptych.errors import ConfigError
from diptych.plugins.factory import load_object
from diptych.training import load_recipe
from diptych_experimental.ar2 import Options as AdversarialOptions
from diptych_training.options import NegativesOptions
from diptych_training.recipes.reranker_scores import CprdOptions

RECIPES = [spec.name for spec in Registry.default().recipes.sorted()]
DATA = {"corpus": "c", "queries": "q", "qrels": "j"}


def options_of(name: str) -> type[BaseModel]:
    found: type[BaseModel] = load_object(Registry.default().recipes.get(name).options, where=name)
    return found


TAUGHT_KIND = {"cross_encoder": "distill", "uni_encoder": "distill", "splade": "kl"}  # whose teacher is optional


def smallest(name: str) -> dict[str, Any]:
    """The options that the recipe requires, and nothing else."""
    given: dict[str, Any] = {"recipe": name, "model": "m", "output": "o", "data": DATA}
    if name in ("image_text", "sound_text", "video_text"):
        given["data"] = {"items": "i"}
    teacher = {"teacher": {"adapter": "cross-encoder"}}
    own: dict[str, dict[str, Any]] = {
        **dict.fromkeys(("distill", "cprd"), teacher),
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
        of_teacher = name in TAUGHT_KIND and option.startswith("teacher.")
        teacher = {"teacher.adapter": "cross-encoder", "loss.kind": TAUGHT_KIND[name]} if of_teacher else {}
        try:
            load_recipe(given, registry, changes={**teacher, option: facts["default"]})
            accepted += 1
        except ConfigError as error:
            refused[option] = str(error)
    assert not refused
    assert accepted > 10


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ar2", ("training.epochs", "training.lora.rank", "negatives.relative", "data.synthetic.cut")),
        ("cross_encoder", ("negatives.relative", "negatives.margin", "prompts.query")),
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
    rounds = AdversarialOptions.model_validate({**known, "training": {"precision": "bfloat16"}})
    assert (rounds.training.batch_size, rounds.training.learning_rate) == (16, 2e-5)


def test_cprd_refuses_options_of_the_order_where_another_part_is_taught() -> None:
    given = {"recipe": "cprd", "model": "m", "output": "o", "data": DATA, "teacher": {"adapter": "cross-encoder"}}
    load_recipe({**given, "loss": {"kind": "scores", "weight": 0.3}}, Registry.default())
    with pytest.raises(ConfigError, match=r"(?s)loss\.top.*loss\.kind order alone, not scores.*leave it out"):
        load_recipe({**given, "loss": {"kind": "scores", "top": 0.5}}, Registry.default())


@pytest.mark.parametrize("name", ["distill", "cprd"])
def test_a_teacher_that_is_missing_is_asked_for_in_both_forms_and_both_can_be_used(name: str) -> None:
    given = {"recipe": name, "model": "m", "output": "o", "data": DATA}
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
        ("distill", "cross-encodr", "a registered reranker: cross-encoder, .*another package"),
        ("splade", "bm25", "a registered reranker: cross-encoder"),
        ("student", "sentence-transformer", "a registered dense encoder: .*sentence-transformers"),
    ],
)
def test_a_teachers_adapter_that_does_not_exist_is_refused_by_its_key_when_options_are_read(
    name: str, given: str, expected: str
) -> None:
    data = {"corpus": "c"} if name == "student" else DATA
    options = {"recipe": name, "model": "m", "output": "o", "data": data, "teacher": {"adapter": given}}
    if name == "splade":
        options["loss"] = {"kind": "margin_mse"}
    told = rf"(?s)where: config, teacher\.adapter\n  got: '{given}'\n  expected: {expected}"
    with pytest.raises(ConfigError, match=told):
        load_recipe(options, Registry.default())


GONE = [
    ("contrastive", {"queue": 512}, "queue"),
    ("contrastive", {"mixing": {}}, "mixing"),
    ("contrastive", {"sampler": "no_duplicates"}, "sampler"),
    ("contrastive", {"loss": {"margin": 0.1}}, "margin"),
    ("contrastive", {"loss": {"learn_tau": True}}, "learn_tau"),
    ("contrastive", {"hybrid": {"groups": "tags"}}, "groups"),
    ("contrastive", {"data": {**DATA, "synthetic": {"double_to": 1000}}}, "double_to"),
    ("dexml", {"loss": {"sample_positives": 1}}, "sample_positives"),
    ("unidec", {"pool": {"cluster_from": 5}}, "cluster_from"),
    ("unidec", {"loss": {"reduction": "supcon"}}, "reduction"),
    ("multi_exit", {"exits": {"layers": [1], "heads": "none"}}, "heads"),
]


@pytest.mark.parametrize(("recipe", "section", "option"), GONE, ids=[f"{row[0]}: {row[2]}" for row in GONE])
def test_an_option_that_is_gone_is_refused_with_what_was_measured(
    recipe: str, section: dict[str, Any], option: str
) -> None:
    with pytest.raises(ConfigError, match=f"no {option}: it is gone, since(?s:.*)commit 6dcfa484"):
        load_recipe({**smallest(recipe), **section}, Registry.default())
