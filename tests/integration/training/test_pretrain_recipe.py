"""`pretrain` end to end: what was trained on pictures and clips is served by the adapters of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from diptych.errors import ConfigError
from diptych.media import MediaConfig, MediaStore
from diptych_experimental.pretraining.encoders import Grid, Policy, drawn_masks
from every_recipe import REGISTRY, made
from tiny_training import Stopping, Told

SMALL = {"patch": 4, "layers": 1, "width": 16, "heads": 2}
SIZES = {"image": {"size": 16}, "video": {"size": 16, "frames": 4}}
SUFFIX = {"image": "png", "video": "gif"}
COUNT = 12


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each modality: stripes of a few widths, which move in clips."""
    folder, random = tmp_path_factory.mktemp("world"), np.random.default_rng(0)
    for name in SUFFIX:
        (folder / name).mkdir()
    for n in range(COUNT):
        wide, shade = 2 + n % 3, random.integers(0, 60, (16, 16, 3))
        frames = [((np.indices((16, 16))[1] + at) // wide % 2 * 180)[..., None] + shade for at in range(6)]
        pictures = [Image.fromarray(own.astype(np.uint8)) for own in frames]
        pictures[0].save(folder / f"image/{n}.png")
        pictures[0].save(folder / f"video/{n}.gif", save_all=True, append_images=pictures[1:])
    return folder


def options(world: Path, output: Path, of: str = "image", **changes: Any) -> dict[str, Any]:
    training = {"epochs": 3, "batch_size": 5, "learning_rate": 3e-3, "device": "cpu", "evaluate_every": 3}
    return {
        "recipe": "pretrain",
        "output": str(output),
        "of": of,
        "data": {"corpus": str(world / of), "share": 0.25},
        "encoder": SMALL | SIZES[of],
        "decoder": {"width": 8, "heads": 2},
        **changes,
        "training": training | changes.get("training", {}),
    }


def contents(world: Path, of: str) -> list[Any]:
    store = MediaStore(MediaConfig(), world / of)
    return [store.content(store.take(of, f"{n}.{SUFFIX[of]}")) for n in range(COUNT)]


@pytest.mark.parametrize(
    ("of", "changes"),
    [
        ("image", {"mask": {"kind": "disjoint", "views": 4}}),
        ("video", {"mask": {"kind": "dual"}, "teacher": {"kind": "ema"}, "target": "features"}),
        ("image", {"teacher": {"kind": "clean", "momentum": 0.9}, "mask": {"ratio": 0.5}}),
    ],
)
def test_an_encoder_learns_without_labels_and_is_served(
    of: str, changes: dict[str, Any], world: Path, tmp_path: Path
) -> None:
    recipe = made(options(world, tmp_path / "run", of, **changes), Told())
    assert recipe.prepare() == [f"{COUNT} items with {of} read"]
    assert recipe.prepare() == []
    report = recipe.train()
    (model,) = report.models
    assert (model.adapter, model.options["modality"]) == ("transformers-media", of)
    if changes.get("target") != "features":
        before, after = (report.measured[when]["explained variance"] for when in ("before", "after"))
        assert after > before, "something was learned"
    assert {path.name for path in (tmp_path / "run").iterdir()} >= {"config.json", "model.safetensors", "README.md"}
    encoder: Any = REGISTRY.create(model.adapter, {**model.options, "device": "cpu"})
    vectors = encoder.encode_document(contents(world, of))
    assert vectors.shape == (COUNT, SMALL["width"])
    assert (vectors @ vectors.T).min() < 0.5, "vectors were centred"


def test_a_training_that_was_stopped_ends_as_one_that_was_not(world: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"teacher": {"kind": "clean", "momentum": 0.5}, "mask": {"kind": "disjoint"}}
    whole = made(options(world, tmp_path / "whole", **given), Told()).train()
    with pytest.raises(InterruptedError):
        made(options(world, tmp_path / "run", **given), Stopping(5)).train()
    report = made(options(world, tmp_path / "run", **given), Told()).train()
    assert 0 < report.resumed_at < report.steps == whole.steps
    ours, theirs = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model": "bert"}, r"model"),
        ({"data": {}}, r"give either corpus or collection"),
        ({"encoder": {"size": 48, "patch": 7}}, r"encoder.size 48 must be a multiple of encoder.patch 7"),
        ({"encoder": {"width": 18, "heads": 4}}, r"encoder.width 18 must be even and a multiple of encoder.heads 4"),
        ({"decoder": {"width": 9, "heads": 3}}, r"decoder.width 9 must be even"),
        ({"mask": {"ratio": 0.99}}, r"mask.ratio 0.99 leaves 0 of 16 patches visible"),
        ({"mask": {"kind": "disjoint", "views": 5}}, r"5 disjoint views of 4 patches do not fit into 16"),
        ({"mask": {"decoded": 0.25}}, r"decoded is for kind: dual, and this is random"),
        ({"teacher": {"kind": "ema", "corrupt": 1.0}}, r"corrupt is for kind: clean, and this is ema"),
        ({"target": "features"}, r"target: features needs a teacher"),
        ({"target": "features", "teacher": {"kind": "ema"}, "training": {"patience": 2}}, r"training.patience needs"),
        ({"encoder": {"size": 48, "frames": 4}}, r"encoder.frames is not for of: image"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: Any, text: str, world: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=text):
        made({**options(world, tmp_path / "run"), **changes}, Told())


GRID = Grid(2, 4, 4)


@pytest.mark.parametrize("policy", ["random", "disjoint", "dual"])
def test_no_patch_is_seen_and_filled_in_and_disjoint_views_see_everything_once(policy: Policy) -> None:
    torch.manual_seed(0)
    masks = drawn_masks(policy, 5, GRID, ratio=0.75, views=4, decoded=0.5)
    assert masks.visible.shape == (20, 4 * GRID.time)
    assert masks.decoded.shape == (20, (6 if policy == "dual" else 12) * GRID.time)
    for visible, decoded in zip(masks.visible.tolist(), masks.decoded.tolist(), strict=True):
        assert len({*visible, *decoded}) == len(visible) + len(decoded)
        assert {place % GRID.places for place in visible} & {place % GRID.places for place in decoded} == set()
    own = [sorted(masks.visible[4 * item : 4 * item + 4].flatten().tolist()) for item in range(5)]
    assert (own == [list(range(GRID.patches))] * 5) is (policy == "disjoint")


def test_items_that_changed_since_they_were_prepared_are_told(world: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    for n in range(4):
        (tmp_path / f"own/{n}.png").write_bytes((world / f"image/{n}.png").read_bytes())
    data = {"corpus": str(tmp_path / "own"), "share": 0.25}
    made(options(world, tmp_path / "run", data=data), Told()).prepare()
    (tmp_path / "own/2.png").write_bytes((world / "image/7.png").read_bytes())
    with pytest.raises(ConfigError, match=r"the items have changed since they were prepared[\s\S]*2.png"):
        made(options(world, tmp_path / "run", data=data), Told()).train()
    with pytest.raises(ConfigError, match="all 4 items held out"):
        made(options(world, tmp_path / "all", data={**data, "share": 0.95}), Told()).train()
