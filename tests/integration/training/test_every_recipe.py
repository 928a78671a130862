"""What every recipe does alike, asked of all of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from diptych.errors import ConfigError
from diptych.training import load_recipe
from every_recipe import MASKED, RECIPES, REGISTRY, made, options_of, write_world
from tiny_training import Told

LORA = {"rank": 2, "modules": ["query", "value"]}
NO_ADAPTERS = {
    "ar2": "training.lora is not for ar2",
    "prototype_tuning": "the encoder is frozen: training.lora",
}
WHOLE = {
    "ar2": "training.mini_batch_size is not for ar2",
    "cmim": "training.mini_batch_size does not go with a decoder",
    "cross_encoder": "training.mini_batch_size is of no use with loss.kind bce",
    "dual_head": "training.mini_batch_size is not for dual_head",
    "lexlip_text": "training.mini_batch_size does not go with FLOPS",
    "multi_exit": "training.mini_batch_size does not go with several exits",
    "prototype_tuning": "the encoder is frozen: training.lora and training.mini_batch_size",
    "splade": "training.mini_batch_size does not go with FLOPS",
    "unidec": "training.mini_batch_size is not for unidec",
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_world(folder)
    return folder


@pytest.mark.parametrize("recipe", sorted({*RECIPES} - {*NO_ADAPTERS}))
def test_adapters_change_the_layers_that_they_are_for_and_what_is_new(recipe: str, world: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = made(options_of(recipe, world, run, lora=LORA, epochs=1), Told()).train()
    assert report.steps > 0
    start = run / "bottleneck" if recipe == "lexlip_text" else world / ("masked" if recipe in MASKED else "dense")
    before, after = load_file(start / "model.safetensors"), load_file(run / "model.safetensors")
    assert after.keys() - before.keys() == NEW.get(recipe, set())
    changed = {name for name in after.keys() & before.keys() if not torch.allclose(after[name], before[name])}
    assert {name.split(".")[-2] for name in changed} == {"query", "value"}


NEW = {
    "cross_encoder": {
        "bert.pooler.dense.weight",
        "bert.pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    }
}


@pytest.mark.parametrize("recipe", sorted(NO_ADAPTERS))
def test_a_recipe_without_adapters_says_so(recipe: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=NO_ADAPTERS[recipe]):
        made(options_of(recipe, world, tmp_path / "run", lora=LORA), Told())


@pytest.mark.parametrize("recipe", ["contrastive", "cprd", "dexml", "distill", "dual_view", "mw", "tas_balanced"])
def test_batches_in_pieces_end_with_the_same_weights(recipe: str, world: Path, tmp_path: Path) -> None:
    """But for dropout, which every piece draws anew."""
    start = Path(shutil.copytree(world / "dense", tmp_path / "dense"))
    config = json.loads((start / "config.json").read_text())
    (start / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.0}))
    ends: list[dict[str, torch.Tensor]] = []
    for size in (None, 4):
        run = tmp_path / f"pieces-{size}"
        given = options_of(recipe, world, run, mini_batch_size=size, epochs=1)
        made({**given, "model": str(start), **NO_NEGATIVES.get(recipe, {})}, Told()).train()
        ends.append(load_file(run / "model.safetensors"))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-4)


NO_NEGATIVES: dict[str, dict[str, Any]] = {name: {"negatives": {"per_query": 0}} for name in ("contrastive", "mw")}


@pytest.mark.parametrize("recipe", sorted(WHOLE))
def test_a_recipe_whose_loss_needs_the_whole_batch_says_so(recipe: str, world: Path, tmp_path: Path) -> None:
    more = {"loss": {"kind": "bce"}} if recipe == "cross_encoder" else {}
    with pytest.raises(ConfigError, match=WHOLE[recipe]):
        made({**options_of(recipe, world, tmp_path / "run", mini_batch_size=4), **more}, Told()).train()


def test_every_step_is_computed_in_bfloat16_before_and_after_evaluations(world: Path, tmp_path: Path) -> None:
    from diptych_training.recipes.contrastive import Contrastive

    class Watched(Contrastive):
        def model(self) -> Any:
            model = super().model()
            layer = next(module for module in model.modules() if isinstance(module, torch.nn.Linear))
            layer.register_forward_hook(lambda own, given, found: seen.append((own.training, found.dtype)))
            models.append(model)
            return model

    seen: list[tuple[bool, torch.dtype]] = []
    models: list[Any] = []
    options = load_recipe(options_of("contrastive", world, tmp_path / "run", precision="bfloat16"), REGISTRY).options
    Watched(options, Told()).train()  # type: ignore[arg-type]
    assert {training for training, _ in seen} == {True, False}
    assert {kind for _, kind in seen} == {torch.bfloat16}
    models[-1].encode(["word1"])
    assert seen[-1][1] == torch.float32, "what was wrapped for the training is unwrapped after it"


WRITTEN = {"styles": ["keywords", "first"], "documents": 6, "density": 2, "round_trip": 5}


def test_documents_with_written_queries_are_doubled_while_it_helps(world: Path, tmp_path: Path) -> None:
    given = options_of("contrastive", world, tmp_path / "run", epochs=1)
    given["data"] |= {"synthetic": {**WRITTEN, "double_to": 100, "gain": 1e-9, "round_trip": None}}
    recipe = made({**given, "negatives": {"per_query": 0}}, Told())
    [sentence] = recipe.prepare()
    trials = {int(path.name.rpartition("-")[2]): path for path in (tmp_path / "run" / "trials").iterdir()}
    scores = {amount: ndcg(path) for amount, path in sorted(trials.items())}
    amounts = list(scores)
    assert amounts == [6, 12, 24][: len(amounts)]
    assert len(amounts) == 3 or scores[amounts[-1]] < scores[amounts[-2]] + 1e-9
    best = max(amounts, key=lambda amount: (scores[amount], -amount))
    assert f"{scores[6]:.4f} of 6, {scores[12]:.4f} of 12" in sentence
    assert sentence.endswith(f"{best} are taken")
    kept = "data/synthetic.jsonl"
    assert (tmp_path / "run" / kept).read_text() == (trials[best] / kept).read_text()
    assert recipe.prepare() == []


def ndcg(run: Path) -> float:
    value: float = json.loads((run / "report.json").read_text())["measured"]["after"]["nDCG@10"]
    return value


def test_doubling_wants_queries_that_are_held_out(world: Path, tmp_path: Path) -> None:
    given = options_of("contrastive", world, tmp_path / "run")
    given["data"] |= {"synthetic": {**WRITTEN, "double_to": 12}, "dev": {"share": 0}}
    with pytest.raises(ConfigError, match="double_to wants judged queries to be held out"):
        made(given, Told())


def test_a_rerankers_first_stage_is_asked_for_the_round_trip(world: Path, tmp_path: Path) -> None:
    given = options_of("cross_encoder", world, tmp_path / "run")
    given["data"] |= {"synthetic": WRITTEN}
    recipe = made(given, Told())
    recipe.prepare()
    assert 0 < len(recipe.folder.kept("synthetic")) <= 12


@pytest.mark.parametrize(
    ("recipe", "new"), [("cross_encoder", "classifier."), ("unidec", "2_Dense"), ("contrastive", "")]
)
def test_a_share_of_the_untrained_model_leaves_alone_what_began_at_random(
    recipe: str, new: str, world: Path, tmp_path: Path
) -> None:
    plain, mixed = (
        made(
            options_of(recipe, world, tmp_path / f"{share}", epochs=1, evaluate_every=100, untrained_share=share),
            Told(),
        )
        for share in (0, 0.5)
    )
    folders = [Path(recipe.train().folder) for recipe in (plain, mixed)]
    changed = {name for name, value in weights(folders[0]).items() if not torch.equal(value, weights(folders[1])[name])}
    assert any("query" in name for name in changed)
    assert not new or (any(name.startswith(new) for name in weights(folders[0])))
    assert not any(name.startswith(new) for name in changed if new)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a saved model, by file and name."""
    files = sorted(folder.glob("**/model.safetensors"))
    found: dict[str, torch.Tensor] = {}
    for file in files:
        above = "" if file.parent == folder else f"{file.parent.relative_to(folder)}/"
        found |= {f"{above}{name}": value for name, value in load_file(file).items()}
    return found
