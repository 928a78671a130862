"""A training says how much of its documents the model does not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from diptych_training.recipes.base import warn_unread
from every_recipe import made, options_of, write_world
from tiny_encoders import WORDS, tiny_encoder
from tiny_training import Told

SHORT, LONG = " ".join(WORDS[:3]), " ".join(WORDS[:18])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tiny_encoder(tmp_path_factory.mktemp("bert"), layers=1)


def said(model: Any, limit: int, documents: list[str], prompt: str = "") -> list[str]:
    told, model.max_seq_length, model.prompts = Told(), limit, {"document": prompt}
    warn_unread(model, documents, told)
    return told.sentences


def test_documents_that_are_cut_are_counted_and_the_limit_is_named(model: Any) -> None:
    (sentence,) = said(model, 8, [LONG, SHORT, SHORT, LONG])  # two of the eight tokens are special
    assert sentence.startswith(
        "warning: 50% of 4 documents are longer than 6 tokens, 57% of all tokens unread, and nothing is learned from"
    )
    assert "training.max_length" in sentence
    assert "longer than 5 tokens" in said(model, 8, [LONG], prompt="word3 ")[0], "the prompt takes a token"


def test_a_training_says_it_before_its_first_step(tmp_path: Path) -> None:
    write_world(tmp_path)
    told = Told()
    recipe = made(options_of("contrastive", tmp_path, tmp_path / "run", max_length=4), told)
    recipe.warn_unread(recipe.model())
    assert [sentence.partition(" tokens,")[0] for sentence in told.sentences] == [
        "warning: 100% of 24 documents are longer than 2"
    ]
