"""The loss of `elastic`, and vectors that are turned before they are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diptych.errors import ContractError
from diptych_training.losses.distillation import StudentLoss
from diptych_training.models.multi_exit import exit_model, has_exits, multi_exit, rotated
from diptych_training.recipes.elastic import ElasticLoss
from tiny_encoders import WIDTH, features_of, tiny_encoder

TEXTS = ["word1 word2 word3", "word4", "word5 word6 word7 word8 word9", "word2 word9"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return multi_exit(tiny_encoder(tmp_path_factory.mktemp("bert"), layers=3), [1, 3])


def unit(rows: Any) -> Any:
    return torch.nn.functional.normalize(rows, dim=-1)


def drawn(*shape: int, seed: int = 0) -> Any:
    return unit(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)))


def test_the_parts_are_those_of_the_formula(model: Any) -> None:
    teacher, first, whole = drawn(5, WIDTH), drawn(5, WIDTH, seed=1), drawn(5, WIDTH, seed=2)
    loss = ElasticLoss(model, teacher, widths=[4], weight=2.0, invariance=3.0, tau=0.1)
    parts = loss.of_vectors([first, whole], teacher)
    assert loss.widths == [WIDTH, 4]
    target = (teacher @ teacher.T / 0.1).fill_diagonal_(float("-inf")).softmax(1)
    terms, apart = [], []
    for width in (WIDTH, 4):
        documents = unit(whole[:, :width])
        for own in (first, whole):
            logs = (unit(own[:, :width]) @ documents.T / 0.1).fill_diagonal_(float("-inf")).log_softmax(1)
            gaps = torch.where(target > 0, target * (target.log() - logs), torch.zeros(()))
            terms.append(gaps.sum(1).mean())
        apart.append((1 - (unit(first[:, :width]) * documents).sum(1)).mean())
    assert float(parts["divergence"]) == pytest.approx(2 * float(sum(terms)) / 4, rel=1e-5)
    assert float(parts["invariance"]) == pytest.approx(3 * float(sum(apart)) / 2, rel=1e-5)
    wanted = (1 - (whole * teacher).sum(1)).mean() + (whole - teacher).square().sum(1).mean()
    assert float(parts["teacher"]) == pytest.approx(float(wanted), rel=1e-5)


def test_one_exit_at_full_width_has_the_loss_of_a_student_that_finds_its_own_vectors(model: Any) -> None:
    teacher = drawn(5, WIDTH)
    parts = ElasticLoss(model, teacher, weight=0.5).of_vectors([teacher], teacher)
    assert set(parts) == {"teacher", "divergence"}
    student = StudentLoss(torch.nn.Identity(), teacher).of_vectors(teacher, teacher)
    assert float(sum(parts.values())) == pytest.approx(float(student), abs=1e-6)


def test_invariance_moves_no_deepest_exit(model: Any) -> None:
    teacher = drawn(5, WIDTH)
    first, whole = (drawn(5, WIDTH, seed=seed).requires_grad_() for seed in (1, 2))
    ElasticLoss(model, teacher, widths=[4], weight=0.0).of_vectors([first, whole], teacher)["invariance"].backward()
    assert first.grad is not None
    assert first.grad.any()
    assert whole.grad is None


def test_every_exit_and_the_layers_below_it_are_moved(model: Any) -> None:
    loss = ElasticLoss(model, drawn(4, WIDTH), widths=[4])
    model.zero_grad()
    sum(loss([features_of(model, *TEXTS)], torch.arange(4)).values()).backward()
    assert all(head.linear.weight.grad.any() for head in model[-1].head.values())
    assert model[0].auto_model.embeddings.word_embeddings.weight.grad.any()


def test_turned_vectors_keep_their_angles(tmp_path: Path) -> None:
    plain = tiny_encoder(tmp_path / "bert", layers=2)
    before = plain.encode(TEXTS)
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH, WIDTH)))
    exits: Any = rotated(multi_exit(plain, [1, 2]), rotation.astype(np.float32))
    after = exit_model(exits, 2).encode(TEXTS)
    assert np.allclose(after, before @ rotation.T, atol=1e-5)
    assert not np.allclose(after, before, atol=1e-2)
    assert (has_exits(exits), has_exits(plain)) == (True, False)


def test_a_width_that_vectors_do_not_have_is_refused(model: Any) -> None:
    for width in (0, WIDTH + 1):
        with pytest.raises(ContractError, match=rf"(?s)a width is out of range.*{width}.*1 to {WIDTH}"):
            ElasticLoss(model, drawn(4, WIDTH), widths=[width])
