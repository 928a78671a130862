"""The momentum twin and its queue: what LexLIP's second phase contrasts with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from diptych.errors import ContractError
from diptych_experimental.lexlip_text import LexLIPLoss, MomentumContrastiveLoss
from diptych_training.lexicon import flops
from diptych_training.losses import ContrastiveLoss
from diptych_training.losses.contrastive import contrastive
from diptych_training.relevance import Relevance
from given_embeddings import Scaled, columns, drawn


def batch(seed: int, rows: int = 4, width: int = 2) -> list[dict[str, Tensor]]:
    return columns(*(drawn(10 * seed + column, rows, 6) for column in range(width)))


def test_with_an_equal_twin_and_an_empty_queue_it_is_the_symmetric_loss() -> None:
    model = Scaled()
    wanted = ContrastiveLoss(model, symmetric=True)(batch(1)).item()
    assert MomentumContrastiveLoss(model)(batch(1)).item() == pytest.approx(wanted, abs=1e-5)


def test_the_twin_follows_slowly_and_has_no_gradient() -> None:
    model = Scaled()
    loss = MomentumContrastiveLoss(model, momentum=0.9)
    loss(batch(1))
    with torch.no_grad():
        model.factor.fill_(2.0)
    loss(batch(1)).backward()
    assert torch.allclose(loss.twin.factor, torch.full((6,), 0.9 * 1 + 0.1 * 2))
    assert loss.twin.factor.grad is None
    assert model.factor.grad is not None
    assert {name for name, _ in loss.named_parameters()} == {"model.factor"}


def test_the_queue_is_a_negative_in_the_next_batch() -> None:
    model = Scaled()
    loss = MomentumContrastiveLoss(model, momentum=0.0, tau=0.5)
    loss(batch(1))
    found = loss(batch(2)).item()
    old, new = ([normalize(model(column)["sentence_embedding"]) for column in batch(seed)] for seed in (1, 2))
    positive = torch.eye(4, 8, dtype=torch.bool)
    ways = [(new[0], [new[1], old[1]]), (new[1], [new[0], old[0]])]
    wanted = [contrastive(asking @ torch.cat(pool).T / 0.5, positive, ~positive).item() for asking, pool in ways]
    assert found == pytest.approx(sum(wanted) / 2, abs=1e-5)


def test_what_is_relevant_in_the_queue_is_no_negative() -> None:
    labels, later = torch.tensor([[0, 0], [1, 1]]), torch.tensor([[2, 2], [3, 3]])
    values = []
    for pairs in ([], [(2, 0), (2, 1), (3, 0), (3, 1), (0, 2), (0, 3), (1, 2), (1, 3)]):
        loss = MomentumContrastiveLoss(Scaled(), relevance=Relevance(pairs))
        loss(batch(1, 2), labels)
        values.append(loss(batch(2, 2), later).item())
    alone = MomentumContrastiveLoss(Scaled())(batch(2, 2), later).item()
    assert values[1] == pytest.approx(alone, abs=1e-5)
    assert values[0] > alone


def test_the_own_document_of_an_earlier_batch_is_no_negative() -> None:
    loss = MomentumContrastiveLoss(Scaled(), momentum=0.0)
    labels = torch.tensor([[0, 0], [1, 1]])
    first = loss(batch(1, 2), labels).item()
    second = loss(batch(1, 2), labels)
    assert second.item() >= first - 1e-5
    blind = MomentumContrastiveLoss(Scaled(), momentum=0.0)
    blind(batch(1, 2))
    assert blind(batch(1, 2)) > second


def test_the_twin_starts_as_what_the_model_is_at_the_first_batch() -> None:
    model = Scaled()
    loss = MomentumContrastiveLoss(model)
    with torch.no_grad():
        model.factor.fill_(2.0)
    loss(batch(1))
    assert torch.equal(loss.twin.factor, model.factor)


def test_a_loss_goes_on_with_the_twin_and_the_queues_of_another() -> None:
    model = Scaled()
    first = MomentumContrastiveLoss(model, momentum=0.5)
    first(batch(1))
    with torch.no_grad():
        model.factor.fill_(3.0)
    first(batch(2))
    kept = {name: value.clone() for name, value in first.state_aside().items()}
    wanted = first(batch(3)).item()
    later = MomentumContrastiveLoss(model, momentum=0.5)
    anew = later(batch(3)).item()
    later.load_aside(kept)
    assert later(batch(3)).item() == pytest.approx(wanted)
    assert anew != pytest.approx(wanted)


def test_the_twin_that_goes_on_computes_as_the_model_does_at_the_first_batch() -> None:
    """What a trainer wraps the model in, such as autocast, comes after a checkpoint was loaded."""
    model = Scaled()
    kept = MomentumContrastiveLoss(model).state_aside()
    loss, calls = MomentumContrastiveLoss(model), list[str]()
    loss.load_aside({name: value.clone() for name, value in kept.items()})
    real = model.forward
    model.forward = lambda features: calls.append("wrapped") or real(features)  # type: ignore[method-assign,func-returns-value]
    loss(batch(1))
    assert "forward" in vars(loss.twin)


def test_a_checkpoint_without_a_twin_lets_twin_and_queues_begin_anew() -> None:
    loss = MomentumContrastiveLoss(Scaled())
    loss.load_aside({})
    with torch.no_grad():
        loss.model.factor.fill_(2.0)
    loss(batch(1))
    assert torch.equal(loss.twin.factor, loss.model.factor)


def test_in_evaluation_neither_twin_nor_queue_change() -> None:
    model = Scaled()
    loss = MomentumContrastiveLoss(model, momentum=0.5).eval()
    loss(batch(1))
    with torch.no_grad():
        model.factor.fill_(3.0)
    values = {round(loss(batch(1)).item(), 5) for _ in range(2)}
    assert len(values) == 1
    assert torch.equal(loss.twin.factor, torch.ones(6))


def test_lexlips_loss_adds_flops_of_unit_vectors() -> None:
    model: Any = Scaled()
    loss = LexLIPLoss(model, flops_weight=0.5)
    parts = loss(batch(3, width=3))
    documents = torch.cat([model(column)["sentence_embedding"] for column in batch(3, width=3)[1:]])
    queries = model(batch(3, width=3)[0])["sentence_embedding"]
    penalty = 0.5 * flops(normalize(documents)).item()
    assert parts["query_regularizer_loss"].item() == pytest.approx(0.5 * flops(normalize(queries)).item(), abs=1e-6)
    assert flops(normalize(queries)).item() != pytest.approx(flops(queries).item(), rel=0.1)
    main = MomentumContrastiveLoss(Scaled())(batch(3, width=3)).item()
    assert parts["document_regularizer_loss"].item() == pytest.approx(penalty, abs=1e-6)
    assert parts["base_loss"].item() == pytest.approx(main, abs=1e-5)


def test_a_batch_that_the_twin_has_not_seen_is_refused() -> None:
    with pytest.raises(ContractError, match="momentum encoder has not seen this batch"):
        MomentumContrastiveLoss(Scaled()).compute_loss_from_embeddings([drawn(1, 2, 6), drawn(2, 2, 6)])


def test_options_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ContractError, match=r"(?s)unusable options.*momentum 1"):
        MomentumContrastiveLoss(Scaled(), momentum=1.0)
