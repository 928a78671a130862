"""Further negatives: documents of earlier batches and mixes, for every loss over a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from diptych.errors import ContractError
from diptych_experimental.mw import FocalBCELoss, MannWhitneyLoss
from diptych_training.losses import (
    CachedLoss,
    ContrastiveLoss,
    CPRDLoss,
    HybridNCELoss,
    KLDistillation,
    Mixing,
    RetrievalLoss,
    SoftTopKLoss,
    with_extra_negatives,
)
from diptych_training.losses.extra_negatives import Queue
from diptych_training.relevance import Relevance
from given_embeddings import Given, Scaled, columns, drawn

LOSSES: tuple[Callable[..., RetrievalLoss], ...] = (
    ContrastiveLoss,
    HybridNCELoss,
    MannWhitneyLoss,
    FocalBCELoss,
    lambda model: SoftTopKLoss(model, k=2),
)
IDS = torch.arange(12).reshape(6, 2)  # of a batch, a query and a document a row


def batch(seed: int, rows: int = 6) -> list[dict[str, torch.Tensor]]:
    """Queries and positives."""
    return columns(drawn(seed, rows, 16), drawn(seed + 1, rows, 16))


@pytest.mark.parametrize("make", LOSSES)
def test_without_mixes_it_is_the_loss_itself_and_they_begin_when_told(make: Callable[..., Any]) -> None:
    embeddings = batch(1)
    plain = make(Given())(embeddings)
    none = with_extra_negatives(make(Given()), mixing=Mixing(pairs=0, with_query=0))
    some = with_extra_negatives(make(Given()), mixing=Mixing(hardest=3, pairs=4, with_query=2))
    later = with_extra_negatives(make(Given()), mixing=Mixing(hardest=3, start_step=1))
    assert torch.equal(plain, none(embeddings))
    assert not torch.equal(some(embeddings), plain)
    assert torch.equal(later(embeddings), plain)
    assert not torch.equal(later(embeddings), plain)
    assert torch.equal(later.eval()(embeddings), plain)


def test_mixes_add_to_the_contrastive_loss() -> None:
    some = with_extra_negatives(ContrastiveLoss(Given()), mixing=Mixing(hardest=3, pairs=4, with_query=2))
    assert some(batch(1)) > ContrastiveLoss(Given())(batch(1))


@pytest.mark.parametrize("make", LOSSES)
def test_documents_of_earlier_batches_are_negatives_as_if_they_stood_in_the_batch(make: Callable[..., Any]) -> None:
    queued = with_extra_negatives(make(Given()), queue=100)
    queued(batch(1), IDS)
    found = queued(batch(5), IDS + 50)
    documents = [batch(5)[1]["given"], batch(1)[1]["given"]]
    wide = torch.cat([IDS + 50, IDS[:, 1:]], 1)
    torch.testing.assert_close(
        found, make(Given()).compute_loss_from_embeddings([batch(5)[0]["given"], *documents], wide)
    )


def test_a_queue_keeps_the_last_and_forgets_the_oldest() -> None:
    queue = Queue(3)
    for n in range(4):
        queue.put(torch.full((2, 2), float(n)), torch.tensor([2 * n, 2 * n + 1]))
    assert queue.ids.tolist() == [6, 7, 4]
    assert queue.vectors[:, 0].tolist() == [3.0, 3.0, 2.0]


def test_what_is_relevant_or_in_the_batch_already_is_no_negative_in_the_queue() -> None:
    known = Relevance([(0, 10), (1, 11), (2, 10), (2, 12), (3, 11)])
    loss = with_extra_negatives(ContrastiveLoss(Given(), tau=1.0, relevance=known), queue=8)
    loss(batch(1, 2), torch.tensor([[0, 10], [1, 11]]))
    found = loss(batch(5, 2), torch.tensor([[2, 12], [3, 11]]))
    queries, documents = (normalize(column["given"], dim=1) for column in batch(5, 2))
    early = normalize(batch(1, 2)[1]["given"], dim=1)
    rows = [
        [queries[0] @ documents[0], queries[0] @ documents[1]],  # 10, in the queue, is relevant, too
        [
            queries[1] @ documents[1],
            queries[1] @ documents[0],
            queries[1] @ early[0],
        ],  # 11 is in the batch
    ]
    wanted = torch.stack([-torch.stack(row).log_softmax(0)[0] for row in rows]).mean()
    torch.testing.assert_close(found, wanted)


def test_a_queue_gets_no_gradient_and_its_documents_are_mixed() -> None:
    loss = with_extra_negatives(
        ContrastiveLoss(Given(), tau=0.1), mixing=Mixing(hardest=1, pairs=1, with_query=0), queue=4
    )
    hard = normalize(torch.tensor([[1.0, 0.1]]), dim=1)
    first = [torch.tensor([[1.0, 0.0]]), hard.clone().requires_grad_()]
    loss.compute_loss_from_embeddings(first, torch.tensor([[0, 10]]))
    assert not loss.more_negatives.queue.vectors.requires_grad
    seen: list[torch.Tensor] = []
    loss.more_negatives.mixing.register_forward_hook(lambda module, given, found: seen.append(found[0]))
    asked, held = torch.eye(2), torch.tensor([[0.9, -0.1], [0.0, 1.0]])
    loss.compute_loss_from_embeddings([asked, held], torch.tensor([[1, 11], [2, 12]]))
    torch.testing.assert_close(seen[0][0, 0], asked[0] @ hard[0])  # its hardest is what the queue holds


def scaled(seed: int) -> list[dict[str, torch.Tensor]]:
    return columns(*(drawn(10 * seed + column, 4, 6) for column in range(2)))


def followed(model: Scaled, loss: RetrievalLoss) -> RetrievalLoss:
    """The loss after a batch, and a model that was trained since."""
    loss(scaled(1))
    with torch.no_grad():
        model.factor.copy_(torch.arange(1.0, 7.0))
    return loss


@pytest.mark.parametrize("pieces", [False, True])
def test_a_queue_with_momentum_keeps_what_a_slow_copy_made_of_the_documents(pieces: bool) -> None:
    model = Scaled()
    loss = followed(model, with_extra_negatives(ContrastiveLoss(model), queue=20, momentum=0.75))
    (CachedLoss(loss, mini_batch_size=2) if pieces else loss)(scaled(2))
    slow = 0.75 * torch.ones(6) + 0.25 * model.factor.detach()
    wanted = normalize((scaled(2)[1]["given"] * slow).relu())
    assert torch.allclose(loss.more_negatives.queue.vectors[:4], wanted, atol=1e-6)
    assert {name for name, _ in loss.named_parameters()} == {"model.factor", "log_scale"}


def test_a_training_goes_on_with_the_slow_copy_of_its_checkpoint() -> None:
    model = Scaled()
    kept = followed(
        model, with_extra_negatives(ContrastiveLoss(model), queue=20, momentum=0.75)
    ).more_negatives.state_aside()
    assert torch.equal(kept["factor"], torch.ones(6))
    later = with_extra_negatives(ContrastiveLoss(model), queue=20, momentum=0.75)
    later.more_negatives.load_aside({name: value.clone() for name, value in kept.items()})
    later(scaled(2))
    assert torch.allclose(later.more_negatives.state_aside()["factor"], 0.75 + 0.25 * model.factor.detach())


def test_a_slow_copy_without_a_queue_and_a_batch_that_it_has_not_seen_are_refused() -> None:
    with pytest.raises(ContractError, match=r"(?s)unusable options.*momentum 0.9, queue 0.*and a queue"):
        with_extra_negatives(ContrastiveLoss(Scaled()), momentum=0.9)
    loss = with_extra_negatives(ContrastiveLoss(Scaled()), queue=4, momentum=0.9)
    with pytest.raises(ContractError, match=r"(?s)momentum encoder has not seen this batch.*look_at"):
        loss.compute_loss_from_embeddings([column["given"] for column in scaled(1)])


def test_a_margin_holds_for_the_queue() -> None:
    asked, own = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.8, 0.6]])
    near, other = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    values = []
    for margin in (None, 0.1):
        loss = with_extra_negatives(ContrastiveLoss(Given(), tau=1.0, margin=margin), queue=4)
        for n, document in enumerate((near, other, own)):
            value = loss.compute_loss_from_embeddings([asked, document], torch.tensor([[n, 10 + n]]))
        values.append(value)
    wanted = [-torch.tensor(row).log_softmax(0)[0] for row in ([0.8, 0.0, 1.0], [0.8, 0.0])]
    torch.testing.assert_close(torch.stack(values), torch.stack(wanted))


def test_the_contrast_of_cprd_takes_them_and_its_order_does_not() -> None:
    embeddings = columns(drawn(1, 4, 8), drawn(2, 4, 8), drawn(3, 4, 8), drawn(4, 4, 8))
    labels = torch.cat([torch.arange(16.0).reshape(4, 4), drawn(5, 4, 3)], 1)
    mixed, plain = with_extra_negatives(CPRDLoss(Given()), mixing=Mixing(hardest=3, pairs=4)), CPRDLoss(Given())
    assert mixed(embeddings, labels) > plain(embeddings, labels)
    assert torch.equal(mixed(embeddings, labels[:, 4:]), plain(embeddings, labels[:, 4:]))


def test_losses_without_negatives_of_the_batch_and_long_vectors_are_refused() -> None:
    with pytest.raises(ContractError, match=r"(?s)the loss does not support additional negatives.*KLDistillation"):
        with_extra_negatives(KLDistillation(Given()), queue=8)
    with pytest.raises(ContractError, match=r'(?s)mixes of unit length among others.*dot.*similarity="cosine"'):
        with_extra_negatives(ContrastiveLoss(Given(), similarity="dot"), mixing=Mixing())


def test_a_loss_that_goes_on_from_its_buffers_draws_the_same() -> None:
    def made() -> RetrievalLoss:
        return with_extra_negatives(
            FocalBCELoss(Given(), negatives=2), mixing=Mixing(hardest=3, pairs=2, start_step=1), queue=7
        )

    whole, first, second = made(), made(), made()
    values = [whole(batch(seed), IDS + seed * 20) for seed in range(4)]
    for seed in range(2):
        first(batch(seed), IDS + seed * 20)
    for name, value in dict(first.named_buffers()).items():
        dict(second.named_buffers())[name].resize_(value.shape).copy_(value)
    again = [second(batch(seed), IDS + seed * 20) for seed in (2, 3)]
    torch.testing.assert_close(again, values[2:])
