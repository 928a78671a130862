"""A reranker that teaches while the student trains."""

from __future__ import annotations

import pytest
import torch

from diptych.errors import ContractError
from diptych.testing.fakes import FakeReranker
from diptych_experimental.ar2 import AR2RetrieverLoss
from diptych_training.losses import CPRDLoss, DualMarginMSELoss, KLDistillation, OnlineDistillationLoss
from diptych_training.losses.base import RetrievalLoss
from diptych_training.teacher_scores import LiveTeacher, scored
from given_embeddings import Given, columns, drawn

QUERIES = ["red fish", "old boat", "tall tree"]
DOCUMENTS = ["red fish swim", "an old red boat", "tall old tree", "fish", "nothing"]
IDS = torch.tensor([[0, 0, 1, 3], [1, 1, 2, 4], [2, 2, 1, 0]])


def stored(ids: torch.Tensor) -> torch.Tensor:
    queries = [QUERIES[row[0]] for row in ids.tolist()]
    texts = [[DOCUMENTS[n] for n in row[1:]] for row in ids.tolist()]
    return torch.from_numpy(scored(FakeReranker(), queries, texts))


@pytest.mark.parametrize("make", [KLDistillation, CPRDLoss, AR2RetrieverLoss])
def test_a_live_teacher_gives_the_loss_and_gradient_of_stored_scores(make: type[RetrievalLoss]) -> None:
    drawings = [drawn(n, 3, 8) for n in range(4)]
    gradients = []
    for loss, labels in (
        (OnlineDistillationLoss(make(Given()), LiveTeacher(FakeReranker(), QUERIES, DOCUMENTS)), IDS),
        (make(Given()), torch.cat([IDS.float(), stored(IDS)], 1) if make.takes_ids else stored(IDS)),
    ):
        embeddings = [one.clone().requires_grad_() for one in drawings]
        loss(columns(*embeddings), labels).backward()
        gradients.append(torch.stack([one.grad for one in embeddings if one.grad is not None]))
    assert torch.equal(*gradients)
    assert gradients[0].abs().sum() > 0


def test_losses_that_look_at_the_columns_themselves_are_taught_too() -> None:
    embeddings = [drawn(n, 3, 8) for n in range(3)]
    teacher = LiveTeacher(FakeReranker(), QUERIES, DOCUMENTS)
    inner = DualMarginMSELoss(Given(), in_batch=lambda features: features[0]["given"] @ torch.ones(8, 6))
    found = OnlineDistillationLoss(inner, teacher)(columns(*embeddings), IDS[:, :3])
    assert found == inner(columns(*embeddings), stored(IDS[:, :3]))
    alone = OnlineDistillationLoss(DualMarginMSELoss(Given()), teacher).compute_loss_from_embeddings(
        embeddings, IDS[:, :3]
    )
    assert alone < found


def test_a_pair_is_asked_for_once_until_the_teacher_forgets() -> None:
    reranker = FakeReranker()
    teacher = LiveTeacher(reranker, QUERIES, DOCUMENTS, known={(0, 0): 7.0})
    scores = teacher(IDS)
    assert scores[0, 0] == 7.0
    assert reranker.encoded == IDS[:, 1:].numel() - 1
    assert torch.equal(teacher(IDS.flip(0)), scores.flip(0))
    assert reranker.encoded == IDS[:, 1:].numel() - 1
    teacher.forget()
    assert torch.equal(teacher(IDS), stored(IDS))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"a teacher needs ids as labels\n  where: OnlineDistillationLoss\n  got: no labels"),
        (torch.zeros(3, 3), r"got: torch.float32 \[3, 3\]\n  expected: integers \[B, 4\]"),
        (IDS[:, :3], r"expected: integers \[B, 4\]"),
        (
            IDS - 1,
            r"does not have these texts\n  where: LiveTeacher\n  got: query ids from -1 to 1\n  expected: 0 to 2",
        ),
        (IDS + torch.tensor([0, 1, 1, 1]), r"got: document ids from 1 to 5\n  expected: 0 to 4"),
    ],
)
def test_labels_that_no_teacher_can_answer_are_refused(labels: torch.Tensor | None, message: str) -> None:
    loss = OnlineDistillationLoss(KLDistillation(Given()), LiveTeacher(FakeReranker(), QUERIES, DOCUMENTS))
    with pytest.raises(ContractError, match=message):
        loss(columns(*(drawn(n, 3, 8) for n in range(4))), labels)
