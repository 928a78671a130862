"""A model with prompts is trained behind them, as it is mined, measured and served, whichever recipe trains it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Router
from torch.nn.modules.module import register_module_forward_pre_hook

from every_recipe import MASKED, RECIPES, made, options_of, write_world
from tiny_encoders import WORDS
from tiny_training import Told

QUERY, PASSAGE = "word30 word31 ", "word32 "
OWN = {"query": QUERY, "passage": PASSAGE}  # as E5 names them
SIDELESS = {
    "cmim",
    "cross_encoder",
    "elastic",
    "prototype_tuning",
    "student",
    "uni_encoder",
}  # texts, pairs, texts behind a soft prompt, queries
DOCUMENTS = {" ".join(WORDS[n : n + 3]) for n in range(24)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    for name, kind in (("dense", SentenceTransformer), ("masked", SparseEncoder)):
        made: Any = kind(str(folder / name), device="cpu", prompts=OWN)
        made.save_pretrained(str(folder / f"prompted-{name}"), create_model_card=False)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("recipe", sorted({*RECIPES} - SIDELESS))
def test_queries_and_documents_are_trained_behind_the_models_prompts(recipe: str, world: Path, tmp_path: Path) -> None:
    given = options_of(recipe, world, tmp_path / "run", **({} if recipe == "ar2" else {"epochs": 1}))
    given["model"] = str(world / f"prompted-{'masked' if recipe in MASKED else 'dense'}")
    with texts_in_training() as seen:
        made(given, Told()).train()
    found = {side_of(text) for text in seen}
    assert found == {("query", QUERY), ("document", PASSAGE)}
    assert saved_prompts(tmp_path / "run") == {"query": QUERY, "document": PASSAGE, "passage": PASSAGE}


def side_of(text: str) -> tuple[str, str]:
    """What a text is, and behind what it stands."""
    prompt = next((own for own in OWN.values() if f"{text} ".startswith(own)), "")
    return ("document" if text.removeprefix(prompt) in DOCUMENTS else "query"), prompt


@contextmanager
def texts_in_training() -> Iterator[set[str]]:
    """What transformers read while in training; pairs of texts, and texts of no word of the world, are none."""
    seen: set[str] = set()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]

    def look(module: Any, given: tuple[Any, ...]) -> None:
        if module.training and given and isinstance(given[0], dict) and "input_ids" in given[0]:
            texts = [[words[place] for place in row if place] for row in given[0]["input_ids"].tolist()]
            single = [row[1:-1] for row in texts if row.count("[SEP]") == 1]
            seen.update(" ".join(row) for row in single if {*row} - {"[UNK]"})

    handle = register_module_forward_pre_hook(look)
    try:
        yield seen
    finally:
        handle.remove()


def saved_prompts(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "config_sentence_transformers.json").read_text())["prompts"]
    return found


def test_prompts_of_the_recipe_take_the_place_of_the_models_own(world: Path, tmp_path: Path) -> None:
    given = options_of("contrastive", world, tmp_path / "run", epochs=1)
    given |= {"model": str(world / "prompted-dense"), "prompts": {"query": "word33 ", "document": ""}}
    recipe = made(given, Told())
    assert recipe.model().prompts == {"query": "word33 ", "document": ""}, "negatives are mined behind them"
    with texts_in_training() as seen:
        recipe.train()
    assert {text.split()[0] == "word33" for text in seen if text not in DOCUMENTS} == {True}
    assert seen & DOCUMENTS
    assert saved_prompts(tmp_path / "run") == {"query": "word33 ", "document": ""}


def test_an_untold_prompt_stays_the_models_own(world: Path, tmp_path: Path) -> None:
    given = options_of("contrastive", world, tmp_path / "run")
    given |= {"model": str(world / "prompted-dense"), "prompts": {"query": ""}}
    assert made(given, Told()).model().prompts == {"query": "", "document": PASSAGE, "passage": PASSAGE}


@pytest.mark.parametrize("recipe", ["contrastive", "dexml"])
def test_a_model_with_a_router_is_trained_on_both_its_ways(recipe: str, tmp_path: Path) -> None:
    write_world(tmp_path)
    parts = list(SentenceTransformer(str(tmp_path / "dense"), device="cpu").children())
    sides: Any = [[Dense(32, 32, activation_function=torch.nn.Identity())] for _ in range(2)]
    router = Router.for_query_document(query_modules=sides[0], document_modules=sides[1])
    SentenceTransformer(modules=[*parts, router]).save_pretrained(str(tmp_path / "routed"), create_model_card=False)
    run = tmp_path / "run"
    given = options_of(recipe, tmp_path, run, epochs=1)
    made({**given, "model": str(tmp_path / "routed")}, Told()).train()
    before, after = weights(tmp_path / "routed"), weights(run)
    changed = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert {name.split("/")[1].partition("_")[0] for name in changed if "Router" in name} == {"query", "document"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    files = list(folder.glob("**/model.safetensors"))
    return {
        f"{file.parent.relative_to(folder)}/{name}": value for file in files for name, value in load_file(file).items()
    }
