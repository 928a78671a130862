"""The parts of the recipe `pretrain`: masks, encoders whose patches can be left out, corruption, and the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import layer_norm, mse_loss, smooth_l1_loss

from diptych.errors import ContractError, DocumentError
from diptych.media import Modality
from diptych_experimental.pretraining.encoders import (
    BODIES,
    EncoderShape,
    Grid,
    PictureBody,
    Policy,
    drawn_masks,
    positions,
    visible_places,
)
from diptych_experimental.pretraining.media import Unlabelled, contents_of, corrupted, read_unlabelled
from diptych_experimental.pretraining.models import (
    MaskedLoss,
    ReconstructionEvaluator,
    centre,
    masked_model,
    patch_targets,
)
from tiny_training import lines

SHAPE = EncoderShape(size=16, patch=4, layers=2, width=16, heads=2, frames=4, tubelet=2, context=32)
FORM: dict[Modality, tuple[int, ...]] = {"image": (3, 16, 16), "video": (4, 3, 16, 16), "series": (32,)}
GRIDS = [Grid(1, 4, 4), Grid(2, 4, 4), Grid(1, 1, 16)]


def inputs_of(modality: Modality, count: int = 3) -> torch.Tensor:
    return torch.rand(count, *FORM[modality], generator=torch.Generator().manual_seed(3)) * 2 - 1


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("policy", ["random", "disjoint", "dual"])
def test_no_patch_is_seen_and_filled_in(policy: Policy, grid: Grid) -> None:
    torch.manual_seed(0)
    masks = drawn_masks(policy, 5, grid, ratio=0.75, views=2, decoded=0.5)
    assert masks.visible.shape == (10, 4 * grid.time)
    assert masks.decoded.shape == (10, (6 if policy == "dual" else 12) * grid.time)
    for visible, decoded in zip(masks.visible.tolist(), masks.decoded.tolist(), strict=True):
        assert len({*visible, *decoded}) == len(visible) + len(decoded)
        assert {*visible, *decoded} <= set(range(grid.patches))
        assert {place % grid.places for place in visible} & {place % grid.places for place in decoded} == set()


def test_disjoint_views_see_every_patch_at_most_once_and_fill_in_all_of_them() -> None:
    torch.manual_seed(0)
    grid = Grid(2, 4, 4)
    masks = drawn_masks("disjoint", 6, grid, ratio=0.75, views=4, decoded=1.0)
    for item in range(6):
        own = masks.visible[4 * item : 4 * item + 4].flatten().tolist()
        assert sorted(own) == list(range(grid.patches)), "four views of a quarter are everything"
    two = drawn_masks("disjoint", 6, grid, ratio=0.75, views=2, decoded=1.0).decoded.reshape(6, -1)
    assert all(len({*own.tolist()}) == grid.patches for own in two)
    apart = drawn_masks("random", 40, grid, ratio=0.75, views=2, decoded=1.0).decoded.reshape(40, -1)
    assert sum(len({*own.tolist()}) == grid.patches for own in apart) < 40, "independent views are not"


def test_the_running_cell_moves_on_by_a_place_and_shows_half() -> None:
    torch.manual_seed(0)
    grid = Grid(4, 4, 4)
    masks = drawn_masks("dual", 30, grid, ratio=0.75, views=1, decoded=0.5)
    shown = torch.zeros(30, grid.patches).scatter(1, masks.decoded, 1.0).reshape(30, 4, 4, 4)
    hidden = torch.ones(30, grid.patches).scatter(1, masks.visible, 0.0).reshape(30, 4, 4, 4)
    assert shown.sum((2, 3)).unique().tolist() == [6.0], "half of twelve, at every time"
    twice = (shown.sum(1)[hidden[:, 0] == 1] == 2).float().mean()
    assert twice > 0.7, "a place is shown at two of four times, where as many are hidden in the cell as not"


def test_few_places_are_rounded() -> None:
    assert [visible_places(Grid(1, 1, count), 0.75) for count in (3, 4, 6, 36)] == [1, 1, 2, 9]


@pytest.mark.parametrize("modality", [*BODIES])
def test_all_patches_give_what_the_saved_model_gives(modality: Modality) -> None:
    torch.manual_seed(1)
    body, inputs = BODIES[modality](SHAPE).eval(), inputs_of(modality)
    ours = body.encoded(body.embedded(inputs))
    if modality == "series":
        assert body.model.config.scaling == "std"
        inputs = (inputs - inputs.mean(1, keepdim=True)) / (inputs.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        ours = body.encoded(body.embedded(inputs))
        theirs = body.model(past_values=inputs[:, :, None]).last_hidden_state[:, 0]
        assert torch.allclose(ours, theirs, atol=1e-3)
        return
    theirs = body.model(pixel_values=inputs).last_hidden_state
    assert torch.allclose(ours, theirs[:, 1:] if modality == "image" else theirs, atol=1e-5)


@pytest.mark.parametrize("modality", [*BODIES])
def test_a_token_depends_on_its_own_patch_alone_before_the_layers(modality: Modality) -> None:
    torch.manual_seed(1)
    body, inputs = BODIES[modality](SHAPE), inputs_of(modality, 1)
    patches = body.patches(inputs)
    assert patches.shape == (1, body.grid.patches, body.values)
    assert sorted(patches.flatten().tolist()) == sorted(inputs.flatten().tolist())
    changed = inputs.clone()
    changed[(0, *(0 for _ in FORM[modality]))] += 1.0  # the very first number
    differs = (body.patches(changed) != patches).any(-1)[0].nonzero().flatten().tolist()
    moved = (body.embedded(changed) != body.embedded(inputs)).any(-1)[0].nonzero().flatten().tolist()
    assert differs == moved == [0]
    last = inputs.clone()
    last[(0, *(-1 for _ in FORM[modality]))] += 1.0
    assert (body.embedded(last) != body.embedded(inputs)).any(-1)[0].nonzero().flatten().tolist() == [
        body.grid.patches - 1
    ]


def test_positions_tell_all_places_apart() -> None:
    for grid in [*GRIDS, Grid(2, 3, 5), Grid(1, 1, 1)]:
        found = positions(grid, 32)
        assert found.shape == (grid.patches, 32)
        assert len({tuple(row) for row in found.numpy().round(4).tolist()}) == grid.patches


def made(modality: Modality = "image", **options: Any) -> tuple[Any, MaskedLoss]:
    """A model and its loss, without randomness but the masks."""
    torch.manual_seed(2)
    settings: dict[str, Any] = {
        "policy": "random", "ratio": 0.75, "views": 1, "decoded": 0.5, "target": "pixels", "teacher": "none",
        "momentum": 0.9, "seen": 0.0, "vector": 0.0, "corrupt": lambda inputs: inputs + 1.0, **options,
    }  # fmt: skip
    model = masked_model(
        SHAPE,
        modality,
        decoder={"width": 8, "layers": 1, "heads": 2},
        target=settings["target"],
        seen=settings["seen"] > 0,
        vector=settings["vector"] > 0,
        device="cpu",
    )
    given = inputs_of(modality, 6)
    return model, MaskedLoss(model, lambda rows: given[list(rows)], **settings)


def found(loss: MaskedLoss, rows: list[int]) -> float:
    torch.manual_seed(5)
    with torch.no_grad():
        return float(loss([], torch.tensor(rows)))


@pytest.mark.parametrize("policy", ["random", "disjoint", "dual"])
def test_the_loss_is_the_mean_over_the_views_of_each_item(policy: Policy) -> None:
    model, loss = made(policy=policy, views=2, seen=0.5)
    rows, module = [4, 1], model[0]
    together = found(loss.eval(), rows)
    torch.manual_seed(5)
    masks = loss.masks(2, "cpu")
    total = 0.0
    for view in range(4):
        inputs = inputs_of("image", 6)[[rows[view // 2]]]
        target = patch_targets(module, inputs)[0]
        visible, decoded = masks.visible[view], masks.decoded[view]
        with torch.no_grad():
            tokens = module.body.encoded(module.body.embedded(inputs)[:, visible])
            hidden = module.decoder(tokens, visible[None], decoded[None])[0]
            seen = module.seen(tokens)[0]
        total += float(mse_loss(hidden, target[decoded]) + 0.5 * smooth_l1_loss(seen, target[visible], beta=2.0))
    assert together == pytest.approx(total / 4, abs=1e-5)


def test_targets_are_standardised_in_each_patch() -> None:
    model, _ = made()
    targets = patch_targets(model[0], inputs_of("image"))
    assert targets.mean(-1).abs().max() < 1e-5
    assert (targets.std(-1) - 1).abs().max() < 1e-3
    flat = patch_targets(model[0], torch.ones(1, 3, 16, 16))
    assert flat.abs().max() == 0


def test_a_spectrum_is_that_of_the_whole_clean_window() -> None:
    model, loss = made("series", target="spectrum", teacher="clean", ratio=0.0, decoded=1.0)
    windows, module = inputs_of("series", 6), model[0]
    tapered = windows[[2, 0]].numpy() * np.hanning(32)
    wanted = torch.from_numpy(np.log1p(np.abs(np.fft.rfft(tapered))[:, 1:])).float()
    with torch.no_grad():
        tokens = module.body.encoded(module.body.embedded(windows[[2, 0]] + 1.0))
        expected = mse_loss(module.decoder.out(tokens.mean(1)), wanted)
    assert found(loss.eval(), [2, 0]) == pytest.approx(float(expected), abs=1e-5)
    loss.train()([], torch.tensor([0, 1])).backward()
    without = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
    assert without == []


def test_the_mean_spectrum_explains_nothing() -> None:
    model, _ = made("series", target="spectrum", ratio=0.0)
    items = Unlabelled("series", list("abcdef"), list(torch.randn(6, 32)), range(6), context=32)  # a window each
    head = model[0].decoder.out
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(patch_targets(model[0], items.inputs(range(6))).mean((0, 1)))
    assert ReconstructionEvaluator(items, 0.0).measured(model)["explained variance"] == pytest.approx(0, abs=1e-3)
    with torch.no_grad():
        head.bias += 1.0
    assert ReconstructionEvaluator(items, 0.0).measured(model)["explained variance"] < -0.1


def test_one_held_out_series_has_no_spectrum_to_compare_with() -> None:
    model, _ = made("series", target="spectrum", ratio=0.0)
    items = Unlabelled("series", ["a"], [torch.randn(32)], range(1), context=32)
    with pytest.raises(ContractError, match=r"too few held-out items(.|\n)*1 series(.|\n)*raise data.share"):
        ReconstructionEvaluator(items, 0.0).measured(model)


def test_a_clean_teacher_sees_the_item_and_the_encoder_its_corruption() -> None:
    model, loss = made(teacher="clean", vector=2.0)
    module, rows = model[0], [0, 3]
    value = found(loss.eval(), rows)
    torch.manual_seed(5)
    masks, clean = loss.masks(2, "cpu"), inputs_of("image", 6)[rows]
    with torch.no_grad():
        outputs = model({"inputs": clean + 1.0, **masks._asdict()})
        vectors = model({"inputs": clean})["sentence_embedding"]
        targets = patch_targets(module, clean)
        hidden = torch.stack([target[places] for target, places in zip(targets, masks.decoded, strict=True)])
        cosine = torch.cosine_similarity(module.vector(outputs["sentence_embedding"]), vectors).mean()
        expected = mse_loss(outputs["predictions"], hidden) + 2.0 * (1 - cosine)
    assert value == pytest.approx(float(expected), abs=1e-5)


def test_features_are_the_teachers_tokens_and_the_teacher_follows_slowly() -> None:
    model, loss = made(teacher="ema", target="features", vector=1.0)
    inputs = inputs_of("image", 6)
    before = {name: value.clone() for name, value in model.named_parameters()}
    taught = loss._taught(inputs)  # the twin is made at the first batch
    wanted = layer_norm(model({"inputs": inputs})["tokens"], (16,))
    assert torch.allclose(loss.targets(inputs, taught), wanted, atol=1e-4)
    with torch.no_grad():
        for value in model.parameters():
            value += 1.0
    loss.train()
    loss([], torch.tensor([0, 1])).backward()
    state = loss.state_aside()
    assert state
    assert all(torch.allclose(state[name], value + 0.1, atol=1e-4) for name, value in before.items())
    _, other = made(teacher="ema", target="features", vector=1.0)
    other.load_aside(state)
    assert all(torch.equal(value, state[name]) for name, value in other.state_aside().items())
    assert made()[1].state_aside() == {}


def test_every_trained_weight_gets_a_gradient() -> None:
    for options in ({"seen": 1.0}, {"teacher": "clean", "vector": 1.0}, {"policy": "dual"}):
        model, loss = made(**options)
        loss.train()([], torch.tensor([0, 1, 2])).backward()
        without = [name for name, value in model.named_parameters() if value.grad is None]
        assert without == [], options


@pytest.mark.parametrize("modality", [*BODIES])
def test_corruption_changes_some_items_and_none_at_strength_0(modality: Modality) -> None:
    torch.manual_seed(0)
    inputs, axes = inputs_of(modality, 60), BODIES[modality].axes
    assert torch.equal(corrupted(inputs, 0.0, axes), inputs)
    changed = (corrupted(inputs, 1.0, axes) - inputs).abs().flatten(1).mean(1)
    assert 0 < (changed == 0).sum() < 15, "one in sixteen stays as it is"
    weak = (corrupted(inputs, 0.1, axes) - inputs).abs().mean()
    assert 0 < weak < changed.mean()


def test_the_mean_vector_becomes_0() -> None:
    torch.manual_seed(1)
    for modality in BODIES:
        model = masked_model(
            SHAPE,
            modality,
            decoder={"width": 8, "layers": 1, "heads": 2},
            target="pixels",
            seen=False,
            vector=False,
            device="cpu",
        )
        rows = (inputs_of(modality, 5) * 100 + 100).to(torch.float32 if modality == "series" else torch.uint8)
        items = Unlabelled(modality, list("abcde"), list(rows), range(5), context=32 if modality == "series" else 0)
        assert centre(model, items) > 0
        with torch.no_grad():
            mean = model[0]({"inputs": items.inputs(range(5))})["sentence_embedding"].mean(0)
        assert mean.abs().max() < 1e-4


def picture(path: Path, colour: str, size: tuple[int, int] = (20, 12)) -> None:
    Image.new("RGB", size, colour).save(path)


def read(modality: Modality, **place: Any) -> Unlabelled:
    processor = getattr(BODIES[modality](SHAPE), "processor", None)
    return read_unlabelled(modality, contents_of(modality, **place), context=32, processor=processor, frames=4)


def test_a_folder_and_files_that_name_pictures_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, colour in (("a.png", "red"), ("sub/b.png", "blue")):
        picture(tmp_path / name, colour)
    names = ("a.png", "sub/b.png")
    rows = [{"id": name, "media": {"image": name}} for name in names]
    lines(tmp_path / "media.jsonl", [*rows, {"id": "t", "text": "no picture"}])
    (tmp_path / "table.csv").write_text("".join(f"{row}\n" for row in ("id,photo", "a,a.png", "b,sub/b.png")), "utf-8")
    folder = read("image", corpus=tmp_path)
    assert list(folder.items) == [*names]
    assert folder.rows[0].dtype == torch.uint8
    assert folder.rows[0][:, 5, 5].tolist() == [255, 0, 0]
    media, table = (
        read("image", corpus=tmp_path / "media.jsonl"),
        read("image", corpus=tmp_path / "table.csv", column="photo"),
    )
    assert media.digests() == folder.digests()
    assert [own["digest"] for own in table.digests()] == [own["digest"] for own in folder.digests()]


def test_the_rows_of_a_series_are_its_channels_and_short_ones_are_left_out(tmp_path: Path) -> None:
    for name, length in (("long", 50), ("short", 31)):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(0).normal(size=(length, 2)).astype(np.float32))
    items = read("series", corpus=tmp_path)
    assert (list(items.items), list(items.short), list(items.owners)) == (["long.npy"], ["short.npy"], [0, 0])
    torch.manual_seed(0)
    windows = items.inputs([0, 1, 0])
    assert windows.shape == (3, 32)
    assert windows.mean(1).abs().max() < 1e-5
    assert not torch.equal(windows[0], windows[2]), "windows are drawn"
    (tmp_path / "long.npy").unlink()
    with pytest.raises(DocumentError, match=r"no series to learn from[\s\S]*the first is short.npy[\s\S]*context"):
        read("series", corpus=tmp_path)


def test_an_item_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", "red")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:40])
    with pytest.raises(DocumentError, match=r"image of 'b.png' cannot be read"):
        read("image", corpus=tmp_path)
    lines(tmp_path / "out.jsonl", [{"id": "o", "media": {"image": "../secret.png"}}])
    with pytest.raises(DocumentError, match=r"image of 'o' cannot be read"):
        read("image", corpus=tmp_path / "out.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DocumentError, match=r"no image to learn from[\s\S]*got: nothing"):
        read("image", corpus=tmp_path / "empty")


def test_whole_items_are_held_out() -> None:
    rows = [torch.zeros(40)] * 20
    items = Unlabelled("series", [f"s{n}" for n in range(10)], rows, [n // 2 for n in range(20)], context=32)
    training, held = items.split(0.3, seed=1)
    assert (len(training), len(held)) == (14, 6)
    assert {*training.owners} & {*held.owners} == set()
    assert list(items.split(0.3, seed=1)[1].owners) == list(held.owners) != list(items.split(0.3, seed=2)[1].owners)
    assert isinstance(PictureBody(SHAPE).axes, tuple)
