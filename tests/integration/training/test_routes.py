"""A dense model whose queries and documents go different ways is trained on: each column goes its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Router

from every_recipe import made, options_of, write_world
from tiny_training import Told


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
