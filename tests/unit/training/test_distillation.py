"""What is handed on of a teacher, and what is not."""

from __future__ import annotations

from itertools import permutations
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from diptych.errors import ContractError
from diptych.testing.fakes import FakeReranker
from diptych_experimental.ar2 import AR2RetrieverLoss
from diptych_experimental.mw import FocalBCELoss, focal_bce
from diptych_training.losses import ContrastiveLoss
from diptych_training.losses.distillation import CPRDLoss, DualMarginMSELoss, KLDistillation, Taught, in_batch_margins
from diptych_training.relevance import Relevance
from diptych_training.teacher_scores import labels_of, scored
from given_embeddings import Given, columns, drawn

SEEDS = st.integers(0, 10_000)


def cprd(top: float | None = None, min_prob: float = 0.1) -> CPRDLoss:
    return CPRDLoss(Given(), top=top, min_prob=min_prob)


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS)
def test_cprd_knows_the_order_alone(seed: int) -> None:
    student, teacher = drawn(seed, 3, 8).double(), drawn(seed + 1, 3, 8).double()
    found = cprd(top=0.5).order(student, teacher)
    assert torch.allclose(cprd(top=0.5).order(student, 3 * teacher.exp() - 7), found)
    assert torch.allclose(cprd(top=0.5).order(student + 4, teacher), found)


def test_cprd_does_not_know_the_order_of_the_invalid() -> None:
    teacher = torch.tensor([[3.0, 2.0, -5.0, -6.0, -7.0]])
    student = drawn(1, 1, 5)
    shuffled = student[:, [0, 1, 4, 2, 3]]
    assert cprd().order(student, teacher).item() == pytest.approx(cprd().order(shuffled, teacher).item())
    assert cprd(min_prob=0.0).order(student, teacher) != cprd(min_prob=0.0).order(shuffled, teacher)


def test_cprd_is_a_likelihood_over_the_orders_of_the_valid() -> None:
    student = drawn(2, 1, 6).double()
    total = 0.0
    for first, second in permutations(range(6), 2):
        teacher = torch.full((1, 6), -9.0).double()
        teacher[0, first], teacher[0, second] = 5.0, 4.0
        total += float((-2 * cprd(top=2 / 6).order(student, teacher)).exp())  # the mean of two terms
    assert total == pytest.approx(1.0)


def test_cprd_without_a_valid_negative_is_infonce() -> None:
    scores = drawn(3, 4, 5)
    wanted = torch.nn.functional.cross_entropy(scores, torch.zeros(4, dtype=torch.int64))
    assert cprd().of_rows(scores, torch.full((4, 5), -50.0)).item() == pytest.approx(wanted.item())


def likelihood(student: Tensor, teacher: Tensor) -> float:
    """Of the teacher's order of its valid negatives, place by place, as the mean over rows of minus its mean log."""
    rows = []
    for scores, wanted in zip(student.tolist(), teacher.tolist(), strict=True):
        order = sorted(range(len(wanted)), key=lambda place: -wanted[place])
        valid = [place for place, own in enumerate(order) if 1 / (1 + np.exp(-wanted[own])) >= 0.1]
        terms = [np.log(sum(np.exp(scores[k]) for k in order[j:])) - scores[order[j]] for j in valid]
        rows.append(sum(terms) / max(1, len(terms)))
    return float(np.mean(rows))


def test_cprd_within_a_row_is_infonce_and_its_weight_of_the_order() -> None:
    student, teacher = drawn(1, 4, 6).double(), 3 * drawn(2, 4, 6).double()
    wanted = torch.nn.functional.cross_entropy(student, torch.zeros(4, dtype=torch.int64)).item()
    for weight in (1.0, 0.3):
        found = CPRDLoss(Given(), weight=weight).of_rows(student, teacher).item()
        assert found == pytest.approx(wanted + weight * likelihood(student[:, 1:], teacher[:, 1:]))


def test_cprd_takes_the_distribution_or_the_scores_instead_of_the_order() -> None:
    student, teacher = drawn(1, 4, 6).double(), 3 * drawn(2, 4, 6).double()
    infonce = torch.nn.functional.cross_entropy(student, torch.zeros(4, dtype=torch.int64)).item()
    own, wanted = (scores[:, 1:].numpy() for scores in (student, teacher))
    shares = [np.exp(scores) / np.exp(scores).sum(1, keepdims=True) for scores in (own, wanted)]
    divergence = (shares[1] * np.log(shares[1] / shares[0])).sum(1).mean()
    gaps = ((own - own.mean(1, keepdims=True)) - (wanted - wanted.mean(1, keepdims=True))) ** 2
    for kind, part in (("distribution", divergence), ("scores", gaps.mean())):
        found = CPRDLoss(Given(), kind=cast(Taught, kind), weight=0.3).of_rows(student, teacher).item()
        assert found == pytest.approx(infonce + 0.3 * part)
    with pytest.raises(ContractError, match=r"(?s)unknown kind.*CPRDLoss.*margins.*order, distribution, scores"):
        CPRDLoss(Given(), kind=cast(Taught, "margins"))


def test_cprd_with_ids_contrasts_with_the_batch_and_knows_what_is_relevant() -> None:
    embeddings, teacher = [drawn(seed, 4, 8) for seed in range(5)], 3 * drawn(9, 4, 4)
    ids = torch.tensor([[n, n, 10 + n, 20 + n, 30 + n] for n in range(4)])
    relevance = Relevance([(0, 1), (2, 13)])
    own = [normalize(column) for column in embeddings]
    students = torch.stack([(own[0] * column).sum(1) for column in own[1:]], 1) / 0.2
    contrast = ContrastiveLoss(Given(), tau=0.2, relevance=relevance)(columns(*embeddings), ids)
    labels = torch.tensor([labels_of(*row) for row in zip(ids.tolist(), teacher.tolist(), strict=True)])
    for weight in (1.0, 0.3):
        loss = CPRDLoss(Given(), tau=0.2, weight=weight, relevance=relevance)
        wanted = contrast.item() + weight * likelihood(students[:, 1:], teacher[:, 1:])
        assert loss(columns(*embeddings), labels).item() == pytest.approx(wanted, rel=1e-5)
    with pytest.raises(ContractError, match=r"(?s)not ids and scores.*CPRDLoss.*\[4, 5\].*float \[4, 9\].*labels_of"):
        CPRDLoss(Given())(columns(*embeddings), ids)


@pytest.mark.parametrize(
    "options",
    [{}, {"min_prob": 0.0}, {"top": 0.5}, {"kind": "distribution"}, {"kind": "scores"}],
    ids=["valid", "all", "the best", "distribution", "scores"],
)
def test_cprd_does_not_compare_a_negative_that_is_judged_relevant(options: dict[str, Any]) -> None:
    embeddings, teacher = [drawn(seed, 1, 8) for seed in range(6)], torch.tensor([[4.0, 3.0, 2.0, 1.0, -5.0]])
    ids = torch.tensor([[0, 0, 10, 20, 30, 40]])
    labels = torch.tensor([labels_of(ids[0].tolist(), teacher[0].tolist())])

    def order(relevance: Relevance, kept: list[int], ids: Tensor, labels: Tensor) -> float:
        given = columns(*(embeddings[n] for n in kept))
        whole = CPRDLoss(Given(), relevance=relevance, **options)(given, labels)
        return float(whole) - float(ContrastiveLoss(Given(), tau=0.07, relevance=relevance)(given, ids))

    without = torch.tensor([labels_of([0, 0, 10, 30, 40], [4.0, 3.0, 1.0, -5.0])])
    wanted = order(Relevance(), [0, 1, 2, 4, 5], ids[:, [0, 1, 2, 4, 5]], without)
    assert order(Relevance([(0, 20)]), [0, 1, 2, 3, 4, 5], ids, labels) == pytest.approx(wanted, rel=1e-4)
    again = ids.clone()  # the row's own positive once more among its negatives
    again[0, 3] = 0
    labels[0, 3] = 0.0
    assert order(Relevance(), [0, 1, 2, 3, 4, 5], again, labels) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("kind", ["order", "distribution", "scores"])
def test_cprd_of_a_row_whose_negatives_are_all_judged_relevant_is_the_contrast(kind: Taught) -> None:
    embeddings = [drawn(seed, 2, 8).requires_grad_() for seed in range(4)]
    ids = torch.tensor([[0, 0, 10, 20], [1, 1, 11, 21]])
    labels = torch.tensor([labels_of(row, [3.0, 2.0, 1.0]) for row in ids.tolist()])
    relevance = Relevance([(query, document + query) for query in (0, 1) for document in (10, 20)])
    found = CPRDLoss(Given(), relevance=relevance, kind=kind)(columns(*embeddings), labels)
    wanted = ContrastiveLoss(Given(), tau=0.07, relevance=relevance)(columns(*embeddings), ids)
    assert found.item() == pytest.approx(wanted.item())
    assert all(torch.isfinite(own).all() for own in torch.autograd.grad(found, embeddings))


def test_kl_is_0_for_the_teachers_own_scores_and_what_a_row_adds_to_them() -> None:
    scores = drawn(4, 3, 5).double()
    loss = KLDistillation(Given(), temperature=2.0)
    assert loss.of_rows(scores + drawn(5, 3, 1), scores).item() == pytest.approx(0.0, abs=1e-9)
    assert loss.of_rows(scores.flip(1), scores) > 0


def test_the_adversarial_term_pulls_up_what_fools_the_ranker() -> None:
    teacher = torch.tensor([[2.0, 1.9, -3.0, 0.5]])
    for form in ("expectation", "log"):
        student = torch.zeros(1, 4, requires_grad=True)
        AR2RetrieverLoss(Given(), adv_weight=1.0, form=form).of_rows(student, teacher).backward()
        assert student.grad is not None
        descent = -student.grad[0, 1:]
        assert descent.argsort().tolist() == teacher[0, 1:].argsort().tolist()


@pytest.mark.parametrize("form", ["expectation", "log"])
def test_the_adversarial_term_of_a_batch_is_the_mean_of_its_rows(form: Any) -> None:
    student, teacher = drawn(6, 3, 5), drawn(7, 3, 5)
    loss = AR2RetrieverLoss(Given(), form=form)
    rows = [loss.adversarial(student[row : row + 1], teacher[row : row + 1]).item() for row in range(3)]
    assert loss.adversarial(student, teacher).item() == pytest.approx(sum(rows) / 3)


def test_without_the_adversarial_term_ar2_is_a_cross_entropy_with_the_ranker() -> None:
    student, teacher = drawn(6, 3, 5), drawn(7, 3, 5)
    wanted = torch.nn.functional.cross_entropy(student, teacher.softmax(1))
    assert AR2RetrieverLoss(Given(), adv_weight=0.0).of_rows(student, teacher).item() == pytest.approx(wanted.item())


def test_the_reward_falls_as_the_ranker_likes_a_negative_better() -> None:
    student, teacher = torch.zeros(1, 3), torch.tensor([[1.0, -1.0, 0.0]])
    liked = teacher + torch.tensor([[0.0, 0.5, 0.0]])
    loss = AR2RetrieverLoss(Given(), adv_weight=1.0)
    assert loss.adversarial(student, liked) < loss.adversarial(student, teacher)


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS)
def test_margins_do_not_know_what_is_added_to_a_query(seed: int) -> None:
    teacher = drawn(seed, 5, 10).double()
    assert in_batch_margins(teacher + drawn(seed + 1, 5, 1), teacher).item() == pytest.approx(0.0, abs=1e-9)


def test_in_batch_margins_are_their_formula_and_do_not_know_the_order_of_rows() -> None:
    student, teacher = drawn(1, 4, 8).double(), drawn(2, 4, 8).double()
    total = 0.0
    for block in (0, 4):
        differences = [
            ((student[i, i] - student[i, block + j]) - (teacher[i, i] - teacher[i, block + j])) ** 2
            for i in range(4)
            for j in range(4)
            if i != j
        ]
        total += float(torch.stack(differences).mean()) / 2
    assert in_batch_margins(student, teacher).item() == pytest.approx(total)
    order = [2, 0, 3, 1]
    both = [*order, *(4 + place for place in order)]
    again = in_batch_margins(student[order][:, both], teacher[order][:, both])
    assert again.item() == pytest.approx(total)


def test_the_dual_loss_adds_both_teachers() -> None:
    embeddings = [drawn(seed, 4, 8) for seed in (1, 2, 3)]
    pairwise, in_batch = drawn(4, 4, 2), drawn(5, 4, 8)
    own = torch.stack([(embeddings[0] * column).sum(1) for column in embeddings[1:]], 1)
    margins = (own[:, 0] - own[:, 1] - pairwise[:, 0] + pairwise[:, 1]).square().mean()
    alone = DualMarginMSELoss(Given())(columns(*embeddings), pairwise)
    assert alone.item() == pytest.approx(margins.item(), rel=1e-5)
    student = embeddings[0] @ torch.cat(embeddings[1:]).T
    wanted = margins + 0.75 * in_batch_margins(student, in_batch)
    both = DualMarginMSELoss(Given(), in_batch=lambda features: in_batch)(columns(*embeddings), pairwise)
    assert both.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_an_in_batch_teacher_is_not_left_out_in_silence_where_it_has_no_tokens_to_read() -> None:
    loss, labels = DualMarginMSELoss(Given(), in_batch=lambda features: drawn(5, 4, 8)), drawn(4, 4, 2)
    embeddings = [drawn(seed, 4, 8) for seed in (1, 2, 3)]
    with pytest.raises(ContractError, match=r"(?s)in-batch teacher cannot read embeddings.*CachedLoss and SpladeLoss"):
        loss.compute_loss_from_embeddings(embeddings, labels)
    assert loss.of(embeddings, labels, drawn(5, 4, 8)) == loss(columns(*embeddings), labels)


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_the_in_batch_teacher_weighs_as_told(weight: float) -> None:
    embeddings, pairwise, in_batch = [drawn(seed, 4, 8) for seed in (1, 2, 3)], drawn(4, 4, 2), drawn(5, 4, 8)
    both = DualMarginMSELoss(Given(), in_batch=lambda features: in_batch, in_batch_weight=weight)
    added = weight * in_batch_margins(embeddings[0] @ torch.cat(embeddings[1:]).T, in_batch)
    alone = DualMarginMSELoss(Given())(columns(*embeddings), pairwise)
    assert (both(columns(*embeddings), pairwise) - alone).item() == pytest.approx(added.item(), rel=1e-4, abs=1e-5)


def test_focal_loss_with_gamma_0_is_cross_entropy_and_easy_pairs_count_less_with_more() -> None:
    logits, positive = drawn(1, 4, 6), torch.eye(4, 6) > 0
    wanted = binary_cross_entropy_with_logits(logits, positive.float(), reduction="none")
    assert torch.allclose(focal_bce(logits, positive, 0.0), wanted)
    easy, hard = torch.tensor([[4.0]]), torch.tensor([[-4.0]])
    yes = torch.tensor([[True]])
    assert focal_bce(easy, yes, 2.0) / focal_bce(easy, yes, 0.0) < 0.001
    assert focal_bce(hard, yes, 2.0) / focal_bce(hard, yes, 0.0) > 0.95


def test_focal_loss_draws_its_negatives_evenly_and_by_its_seed() -> None:
    query, *documents = (normalize(drawn(seed, 1, 8)) for seed in range(5))
    logits = query @ torch.cat(documents).T / 0.5
    losses = focal_bce(logits, torch.tensor([[True, False, False, False]]), 2.0)[0]
    possible = [((losses[0] + other) / 2).item() for other in losses[1:]]
    features = columns(query, *documents)
    loss, again = (FocalBCELoss(Given(), tau=0.5, negatives=1, seed=3) for _ in range(2))
    found = [loss(features).item() for _ in range(120)]
    taken = [min(range(3), key=lambda place: abs(possible[place] - value)) for value in found]
    assert found == pytest.approx([possible[place] for place in taken], rel=1e-5)
    assert all(25 < taken.count(place) < 55 for place in range(3))
    assert found == [again(features).item() for _ in range(120)]
    other = FocalBCELoss(Given(), tau=0.5, negatives=1, seed=4)
    assert found != [other(features).item() for _ in range(120)]


def test_focal_loss_takes_as_many_negatives_a_positive_as_told() -> None:
    labels, zeros = torch.tensor([[0, 0], [1, 1], [2, 2], [3, 3], [4, 4], [5, 5]]), torch.zeros(6, 8)
    relevance = Relevance([(0, 1), (2, 0), (2, 1), (2, 3)])
    for number in (1, 2, None):
        loss = FocalBCELoss(Given(), gamma=0.0, bias=-5.0, negatives=number, relevance=relevance)
        counts = [(1, 5), (2, 4), (4, 2)]  # positives and negatives of a row; four rows have one positive
        taken = [(own, rest if number is None else min(rest, number * own)) for own, rest in counts]
        positive, negative = np.log1p(np.exp(5.0)), np.log1p(np.exp(-5.0))
        rows = [(own * positive + rest * negative) / (own + rest) for own, rest in taken]
        wanted = (4 * rows[0] + rows[1] + rows[2]) / 6
        assert loss(columns(zeros, zeros), labels).item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        cprd(top=0.6),
        CPRDLoss(Given(), kind="distribution"),
        CPRDLoss(Given(), kind="scores"),
        KLDistillation(Given()),
        AR2RetrieverLoss(Given()),
    ],
)
def test_gradients_are_those_of_finite_differences(loss: CPRDLoss | KLDistillation | AR2RetrieverLoss) -> None:
    student, teacher = drawn(8, 2, 5).double().requires_grad_(), drawn(9, 2, 5).double()
    assert torch.autograd.gradcheck(lambda s: loss.of_rows(s, teacher), student)


@pytest.mark.parametrize("make", [KLDistillation, CPRDLoss, AR2RetrieverLoss])
def test_the_students_cosines_are_divided_by_tau(make: Any) -> None:
    embeddings, teacher = [drawn(seed, 3, 8) for seed in range(4)], drawn(9, 3, 3)
    own = [normalize(column) for column in embeddings]
    cosines = torch.stack([(own[0] * column).sum(1) for column in own[1:]], 1)
    loss = make(Given(), tau=0.3)
    found = loss(columns(*embeddings), teacher).item()
    assert found == pytest.approx(loss.of_rows(cosines / 0.3, teacher).item(), rel=1e-5)
    assert found != pytest.approx(loss.of_rows(cosines, teacher).item(), rel=1e-2)


def test_ar2_is_the_reward_over_the_negatives_and_the_rest_a_cross_entropy_with_the_softened_ranker() -> None:
    student, teacher = drawn(1, 4, 6).double(), 2 * drawn(2, 4, 6).double()
    adversarial = distilled = 0.0
    for g, f in zip(student.numpy(), teacher.numpy(), strict=True):
        chances = np.exp(g[1:]) / np.exp(g[1:]).sum()
        adversarial += float(chances @ np.log(np.exp(f[0]) / (np.exp(f[0]) + np.exp(f[1:])))) / 4
        wanted = np.exp(f / 2) / np.exp(f / 2).sum()
        distilled -= float(wanted @ np.log(np.exp(g) / np.exp(g).sum())) / 4
    for weight in (0.3, 1.0):
        found = AR2RetrieverLoss(Given(), adv_weight=weight, temperature=2.0).of_rows(student, teacher)
        assert found.item() == pytest.approx(weight * adversarial + (1 - weight) * distilled)


def test_no_gradient_reaches_the_teacher() -> None:
    embeddings, labels = [drawn(seed, 2, 4) for seed in (1, 2, 3)], drawn(4, 2, 2).requires_grad_()
    given = [embedding.requires_grad_() for embedding in embeddings]
    KLDistillation(Given())(columns(*given), labels).backward()
    assert labels.grad is None
    assert given[0].grad is not None


def labelled(labels: Tensor | None) -> Tensor:
    loss: Tensor = KLDistillation(Given())(columns(*(drawn(seed, 2, 4) for seed in (1, 2, 3))), labels)
    return loss


def test_labels_that_are_no_scores_are_refused_with_the_way_to_make_them() -> None:
    for labels in (None, torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 3)):
        with pytest.raises(ContractError, match=r"(?s)not a teacher.s scores.*float \[2, 2\].*scored\(reranker"):
            labelled(labels)


def test_a_reranker_scores_the_rows_of_a_data_set_at_once() -> None:
    found = scored(FakeReranker(), ["red fox", "blue whale"], [["a red fox", "a car"], ["the whale", "blue whale"]])
    assert found.shape == (2, 2)
    assert found.dtype == np.float32
    assert found[0, 0] > found[0, 1]
    assert found[1, 1] > found[1, 0]
    with pytest.raises(ContractError, match="rows for the teacher differ in length"):
        scored(FakeReranker(), ["a", "b"], [["c"], ["d", "e"]])


def test_kl_is_its_formula_with_the_temperature_on_both_sides() -> None:
    student, teacher = drawn(1, 3, 5).double(), drawn(2, 3, 5).double()
    wanted = teacher.div(3).softmax(1)
    rows = (wanted * (wanted.log() - student.div(3).log_softmax(1))).sum(1)
    found = KLDistillation(Given(), temperature=3.0).of_rows(student, teacher)
    assert found.item() == pytest.approx(9 * rows.mean().item())


def test_without_the_adversarial_term_ar2_pulls_as_kl_does() -> None:
    teacher, gradients = drawn(2, 3, 5).double(), []
    for loss in (KLDistillation(Given()), AR2RetrieverLoss(Given(), adv_weight=0.0)):
        student = drawn(1, 3, 5).double().requires_grad_()
        loss.of_rows(student, teacher).backward()
        assert student.grad is not None
        gradients.append(student.grad)
    assert torch.allclose(gradients[0], gradients[1])


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS)
def test_the_released_form_of_the_adversarial_term_is_its_sum_over_the_row(seed: int) -> None:
    student, teacher = drawn(seed, 3, 6).double(), drawn(seed + 1, 3, 6).double()
    reward = (teacher[:, :1].exp() / (teacher[:, :1].exp() + teacher.exp())).log()
    assert torch.allclose(reward[:, 0], torch.tensor(0.5).double().log())
    loss = AR2RetrieverLoss(Given(), adv_weight=1.0, form="log")
    assert torch.allclose(loss.adversarial(student, teacher), (reward * student.log_softmax(1)).sum(1).mean())


@settings(deadline=None, max_examples=40)
@given(seed=SEEDS)
def test_the_order_of_the_invalid_changes_no_gradient_either(seed: int) -> None:
    teacher = torch.cat([drawn(seed, 3, 4).clamp(min=-1.5), -5 - drawn(seed + 1, 3, 6).abs()], 1).double()
    shuffled = torch.cat([teacher[:, :4], teacher[:, 4:].flip(1)], 1)
    gradients = []
    for order in (teacher, shuffled):
        student = drawn(seed + 2, 3, 10).double().requires_grad_()
        cprd().order(student, order).backward()
        assert student.grad is not None
        gradients.append(student.grad)
    assert torch.allclose(gradients[0], gradients[1])
    assert (gradients[0][:, 4:] > 0).all()  # what is invalid is below all that is valid


def test_the_focal_threshold_starts_where_it_is_put() -> None:
    query, document = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.6, 0.8]])  # a cosine of 0.6
    for cosine, likely in ((0.5, True), (0.7, False)):
        loss = FocalBCELoss(Given(), gamma=0.0, tau=0.1, bias=-cosine / 0.1)(columns(query, document))
        assert (loss < np.log(2)) == likely


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_focal_gradient_is_that_of_finite_differences(gamma: float) -> None:
    logits, positive = drawn(3, 3, 4).double().requires_grad_(), torch.eye(3, 4) > 0
    assert torch.autograd.gradcheck(lambda s: focal_bce(s, positive, gamma), logits)


def test_the_gradient_of_in_batch_margins_is_that_of_finite_differences() -> None:
    student, teacher = drawn(4, 3, 6).double().requires_grad_(), drawn(5, 3, 6).double()
    assert torch.autograd.gradcheck(lambda s: in_batch_margins(s, teacher), student)
