"""Dual views swap two labels and nothing else; what measures them is right."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych import Registry
from diptych.errors import DocumentError, EvaluationError
from diptych_experimental.dual_view import (
    Instructed,
    TrainingView,
    dual_views,
    flip_accuracy,
    originals,
    p_mrr,
    view_relevance,
    view_rows,
)
from diptych_experimental.tas_balanced import PairedViews
from diptych_training import hooks
from diptych_training.data.generators import Generator
from diptych_training.losses.contrastive import contrastive
from diptych_training.relevance import Candidates, Relevance

TEMPLATES = Generator("templates", registry=Registry(hooks, installed=False))
DOCUMENTS = {f"d{n}": f"topic{n % 3} attribute{n} attribute{(n * 7) % 11}" for n in range(20)}
INSTANCES = [
    Instructed(
        f"topic{n % 3}", f"The document must {'' if n % 2 else 'not '}mention attribute{n}.", f"d{n}", f"d{n + 1}"
    )
    for n in range(12)
]


def test_two_views_of_each_instance_swap_exactly_the_two_labels() -> None:
    instances = [Instructed(i.query, i.instruction, i.positive, i.negative, ("d18", "d19")) for i in INSTANCES]
    found = dual_views(instances, DOCUMENTS, TEMPLATES)
    assert (len(found.views), found.dropped) == (2 * len(instances), {})
    for instance, first, second in zip(instances, found.views[::2], found.views[1::2], strict=True):
        assert (first.positive, first.negatives) == (instance.positive, (instance.negative, "d18", "d19"))
        assert (second.positive, second.negatives) == (instance.negative, (instance.positive, "d18", "d19"))
        assert (first.query, first.group) == (second.query, second.group)
        assert first.instruction == instance.instruction != second.instruction
        assert ("not mention" in first.instruction) != ("not mention" in second.instruction)


def test_instances_without_a_counterpart_are_counted() -> None:
    odd = Instructed("topic0", "Be brief.", "d0", "d20")
    found = dual_views([odd, INSTANCES[1]], {**DOCUMENTS, "d20": "topic0 attribute0"}, TEMPLATES)
    assert found.dropped == {"no counter-instruction": 1}
    assert found.groups == [0, 0]


def test_relevance_hangs_on_query_and_instruction_together() -> None:
    views = dual_views(INSTANCES, DOCUMENTS, TEMPLATES).views
    rows = view_rows(views, DOCUMENTS)
    labels = torch.tensor([row["label"] for row in rows])
    found = Candidates.of(len(rows), 2, labels, Relevance(view_relevance(views, DOCUMENTS)))
    ids = found.documents.tolist()
    numbers = {identifier: number for number, identifier in enumerate(DOCUMENTS)}
    for row, view in enumerate(views):
        relevant = {numbers[other.positive] for other in views if said(other) == said(view)}
        assert {ids[c] for c in torch.nonzero(found.positive[row]).flatten().tolist()} == relevant
        assert {ids[c] for c in torch.nonzero(found.negative[row]).flatten().tolist()} == set(ids) - relevant
    assert rows[0]["query"] == "topic0 The document must not mention attribute0."
    assert (rows[0]["positive"], rows[0]["negative_1"]) == (rows[1]["negative_1"], rows[1]["positive"])


def said(view: TrainingView) -> tuple[str, str]:
    return view.query, view.instruction


def test_sister_rows_come_in_one_batch() -> None:
    views = dual_views(INSTANCES, DOCUMENTS, TEMPLATES)
    for batch in PairedViews(views.groups)(range(len(views.views)), 6, False):
        assert sorted(batch) == sorted({row for own in batch for row in (own, own ^ 1)})


@settings(deadline=None, max_examples=60)
@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.02, 2.0))
def test_an_encoder_that_ignores_instructions_loses_at_least_two_ln_two(own: float, other: float, tau: float) -> None:
    scores = torch.tensor([[own, other]], dtype=torch.float64)
    found = Candidates.of(1, 2, torch.tensor([[0, 0, 1]]), Relevance())
    total = sum(contrastive(own / tau, found.positive, found.negative) for own in (scores, scores.flip(1)))
    assert float(total) >= 2 * math.log(2) - 1e-6


def test_originals_alone_are_groups_of_one() -> None:
    found = originals(INSTANCES)
    assert found.groups == list(range(12))
    assert [view.positive for view in found.views] == [own.positive for own in INSTANCES]


def test_instances_are_read_from_mappings() -> None:
    raw = {"query": "q", "instruction": "i", "positive": "a", "negative": "b", "others": ["c"]}
    assert Instructed.from_mapping(raw) == Instructed("q", "i", "a", "b", ("c",))
    with pytest.raises(DocumentError, match=r"(?s)not an instance.*line 3.*no text in instruction, negative"):
        Instructed.from_mapping({"query": "q", "positive": "a"}, where="line 3")
    with pytest.raises(DocumentError, match="'a' is positive and negative"):
        Instructed.from_mapping({**raw, "negative": "a"})
    with pytest.raises(DocumentError, match=r"(?s)not there.*'gone'"):
        dual_views([Instructed("q", "i", "gone", "d0")], DOCUMENTS, TEMPLATES)


def test_p_mrr_is_that_of_its_formula() -> None:
    assert p_mrr([1], [4]) == pytest.approx(1 - (1 / 4) / (1 / 1))
    assert p_mrr([4], [1]) == pytest.approx((1 / 4) / (1 / 1) - 1)
    assert p_mrr([3, 1], [3, 2]) == pytest.approx(0.25)
    ranks = np.random.default_rng(0).integers(1, 50, (2, 200))
    values = [p_mrr([int(a)], [int(b)]) for a, b in ranks.T]
    assert all(-1 < value < 1 for value in values)
    assert p_mrr(ranks[0].tolist(), ranks[1].tolist()) == pytest.approx(float(np.mean(values)))
    assert p_mrr(ranks[0].tolist(), ranks[0].tolist()) == 0
    with pytest.raises(EvaluationError, match=r"(?s)ranks are not of the same.*1 and 0"):
        p_mrr([1], [])


def test_who_ignores_instructions_is_right_half_the_time() -> None:
    scores = np.random.default_rng(0).random((50, 2))
    blind = flip_accuracy([*scores[:, 0], *scores[:, 1]], [*scores[:, 1], *scores[:, 0]])
    assert blind == 0.5
    assert flip_accuracy([1, 1], [0, 1]) == 0.75
