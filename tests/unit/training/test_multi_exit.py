"""Encoders with several exits: what each exit answers, and what its loss moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych.errors import ConfigError, ContractError
from diptych_training.losses import ContrastiveLoss
from diptych_training.models.multi_exit import EMBEDDINGS, MultiExitLoss, exit_model, export_exits, multi_exit
from diptych_training.models.trained_module import layers_of
from given_embeddings import Given, drawn
from tiny_encoders import WIDTH, features_of, tiny_encoder

TEXTS = ["word1 word2 word3", "word4", "word5 word6 word7 word8 word9"]


def batch(model: Any) -> list[dict[str, Any]]:
    return [features_of(model, "word1 word2", "word3"), features_of(model, "word1", "word3 word4")]


def stirred(model: Any) -> Any:
    """The model after a change of its heads and norms, so that none is as it began."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in list(model.children())[-1].parameters():
            parameter.add_(torch.randn_like(parameter) / 10)
    return model


@pytest.mark.parametrize("heads", ["none", "separate", "shared"])
def test_the_last_exit_answers_as_the_plain_model_bit_for_bit(heads: Any, tmp_path: Path) -> None:
    plain = tiny_encoder(tmp_path / "bert")
    wanted = plain.encode(TEXTS)
    exits: Any = multi_exit(plain, [1, 3], heads=heads)
    assert np.array_equal(exits.encode(TEXTS), wanted)
    assert np.array_equal(exit_model(exits, 3).encode(TEXTS), wanted)


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
@pytest.mark.parametrize("heads", ["separate", "shared"])
def test_a_saved_exit_answers_as_the_whole_model_does_there(kind: str, heads: Any, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model: Any = stirred(multi_exit(tiny_encoder(tmp_path / "bert", kind=kind), [1, 2, 3], heads=heads))
    with torch.no_grad():
        wanted = model(features_of(model, *TEXTS))[EMBEDDINGS]
    folders = export_exits(model, tmp_path / "out")
    for layer, vectors in zip((1, 2, 3), wanted, strict=True):
        found = SentenceTransformer(str(folders[layer]), device="cpu")
        assert len(layers_of(found[0].auto_model)) == layer
        assert np.allclose(found.encode(TEXTS), vectors.numpy(), atol=1e-6)
    listed = json.loads((tmp_path / "out" / "exits.json").read_text())
    assert [(one["layers"], one["folder"]) for one in listed] == [(1, "exit_1"), (2, "exit_2"), (3, ".")]


def test_layers_above_the_deepest_exit_are_left_out(tmp_path: Path) -> None:
    plain = tiny_encoder(tmp_path / "bert")
    assert len(layers_of(multi_exit(plain, [1, 2])[0].auto_model)) == 2
    assert len(layers_of(plain[0].auto_model)) == 3


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_the_loss_of_an_exit_moves_nothing_above_it(kind: str, tmp_path: Path) -> None:
    model: Any = multi_exit(tiny_encoder(tmp_path / "bert", kind=kind), [1, 2, 3])
    MultiExitLoss(ContrastiveLoss(model))(batch(model))["exit_2"].backward()
    layers, exits = layers_of(model[0].auto_model), model[1]
    moved = [any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters()) for layer in layers]
    assert moved == [True, True, False]
    heads = {name: head.linear.weight.grad is not None for name, head in exits.head.items()}
    assert heads == {"1": False, "2": True, "3": False}
    if kind == "modernbert":
        assert model[0].auto_model.final_norm.weight.grad is None
        assert exits.norm["2"].weight.grad.any()
        assert exits.norm["1"].weight.grad is None


def test_losses_are_weighted_by_depth_or_as_told(tmp_path: Path) -> None:
    model: Any = multi_exit(tiny_encoder(tmp_path / "bert"), [1, 3])
    features = batch(model)
    equal, depth, own = (
        MultiExitLoss(ContrastiveLoss(model), weights=weights)(features) for weights in ("equal", "depth", [2, 0.5])
    )
    assert depth["exit_1"].item() == pytest.approx(equal["exit_1"].item() / 3)
    assert depth["exit_3"].item() == equal["exit_3"].item()
    assert own["exit_1"].item() == pytest.approx(2 * equal["exit_1"].item())
    with pytest.raises(ContractError, match=r"(?s)unusable weights.*depth, equal, or 2 numbers"):
        MultiExitLoss(ContrastiveLoss(model), weights=[1.0])


def test_one_exit_after_the_last_layer_has_the_loss_of_the_plain_model(tmp_path: Path) -> None:
    plain = tiny_encoder(tmp_path / "bert")
    features = batch(plain)
    wanted = ContrastiveLoss(plain)(features)
    model: Any = multi_exit(plain, [3])
    assert MultiExitLoss(ContrastiveLoss(model), distill_weight=1.0)(features)["exit_3"].item() == wanted.item()


def test_distilling_pulls_early_exits_to_the_last_and_leaves_that_alone(tmp_path: Path) -> None:
    model: Any = multi_exit(tiny_encoder(tmp_path / "bert"), [1, 3])
    loss = MultiExitLoss(ContrastiveLoss(model), distill_weight=0.5)(batch(model))["distill"]
    loss.backward()
    assert loss.item() > 0
    assert model[1].head["1"].linear.weight.grad.any()
    assert model[1].head["3"].linear.weight.grad is None


def test_an_exit_is_measured_by_what_the_last_one_expects(tmp_path: Path) -> None:
    """The divergence of P_top from P_i, in that order, as the mean over queries and over the exits below the last."""
    model: Any = multi_exit(tiny_encoder(tmp_path / "bert"), [1, 2, 3])
    loss = MultiExitLoss(ContrastiveLoss(model), distill_weight=1.0, distill_tau=0.3)
    exits = [[drawn(10 * layer + column, 4, 8) for column in range(2)] for layer in range(3)]
    chances = []
    for queries, documents in exits:
        a, b = (
            own.double().numpy() / np.linalg.norm(own.double().numpy(), axis=1)[:, None] for own in (queries, documents)
        )
        shares = np.exp(a @ b.T / 0.3)
        chances.append(shares / shares.sum(1)[:, None])
    wanted = [(chances[2] * np.log(chances[2] / own)).sum(1).mean() for own in chances[:2]]
    assert loss.divergence(exits).item() == pytest.approx(np.mean(wanted), rel=1e-5)


def test_what_cannot_be_left_is_refused(tmp_path: Path) -> None:
    from sentence_transformers.base.modules import Dense

    plain = tiny_encoder(tmp_path / "bert")
    with pytest.raises(ConfigError, match=r"(?s)the model does not have these layers.*got: 4.*1 to 3"):
        multi_exit(plain, [2, 4])
    with pytest.raises(ContractError, match="an exit with another dimension needs a head"):
        multi_exit(plain, [1], heads="none", dimension=8)
    with pytest.raises(ContractError, match=r"(?s)no such exit.*got: 2.*1, 3"):
        exit_model(multi_exit(plain, [1, 3]), 2)
    with pytest.raises(ContractError, match="the model has no exits"):
        MultiExitLoss(ContrastiveLoss(Given()))
    plain.append(Dense(WIDTH, 8))
    with pytest.raises(ContractError, match=r"(?s)parts that this method cannot train.*Dense"):
        multi_exit(plain, [1])


def test_exits_of_fewer_dimensions_are_all_of_them(tmp_path: Path) -> None:
    model: Any = multi_exit(tiny_encoder(tmp_path / "bert"), [1, 3], dimension=8)
    found = model(features_of(model, *TEXTS))
    assert [tuple(vectors.shape) for vectors in found[EMBEDDINGS]] == [(3, 8), (3, 8)]
    assert model.get_embedding_dimension() == 8
