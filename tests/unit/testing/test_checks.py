"""What failing checks say, and the checks that need known facts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from qdrant_client import models

from diptych.testing import ConformanceFailure, FakeDenseEncoder, FakeReranker, FakeSparseEncoder
from diptych.testing.checks import Conditions
from diptych.testing.checks.encoders import (
    can_tell_sides,
    check_declared_facts,
    check_dimension,
    check_known_vectors,
    check_order,
    check_queries_find_documents,
    check_sides_as_declared,
)
from diptych.testing.checks.other_kinds import check_index_params, check_text_query
from diptych.types import Floats

DENSE = Conditions(kind="dense")
DIRECTED = ("cat food", "feline nutrition", "food blender for soup and bread")
PROMPTS = {"query_prompt": "query:", "document_prompt": "passage:"}


class Narrow(FakeDenseEncoder):
    def encode_query(self, inputs: Sequence[str]) -> Floats:
        return super().encode_query(inputs)[:, :32]


class Swapped(FakeDenseEncoder):
    def encode_query(self, inputs: Sequence[str]) -> Floats:
        return super().encode_document(inputs)

    def encode_document(self, inputs: Sequence[str]) -> Floats:
        return FakeDenseEncoder.encode_query(self, inputs)


class OldWords:
    """A text index whose query says nothing of the text."""

    def index_params(self) -> models.TextIndexParams:
        return models.TextIndexParams(type=models.TextIndexType.TEXT)

    def query(self, text: str) -> models.TextQuery:
        return models.TextQuery(text="always the same")


class PlainWords(OldWords):
    def query(self, text: str) -> models.TextQuery:
        return models.TextQuery(text=text)


def test_a_failure_names_the_check_and_both_numbers() -> None:
    with pytest.raises(ConformanceFailure, match=r"check_dimension: .*\n  got: shape \[32\]\n  expected: 64") as caught:
        check_dimension(Narrow(dimension=64), DENSE)
    assert caught.value.check == "check_dimension"
    assert isinstance(caught.value, AssertionError)


def test_an_adapter_that_raises_fails_the_check_and_keeps_the_cause() -> None:
    with pytest.raises(ConformanceFailure, match="encode_query raised\n  where: 6 inputs") as caught:
        check_order(FakeDenseEncoder(fail_on_call=1), DENSE)
    assert "call 1 fails" in str(caught.value.__cause__)


def test_missing_members_name_the_contract() -> None:
    with pytest.raises(ConformanceFailure, match=r"got: FakeReranker\n  expected: diptych\.DenseEncoder"):
        check_declared_facts(FakeReranker(), DENSE)


def test_swapped_sides_are_named_as_such() -> None:
    directed = Conditions(kind="dense", triples=(DIRECTED,))
    healthy, swapped = (make(expand={"feline": "cat", "nutrition": "food"}) for make in (FakeDenseEncoder, Swapped))
    check_queries_find_documents(healthy, directed)
    with pytest.raises(ConformanceFailure, match="are encode_query and encode_document mixed up"):
        check_queries_find_documents(swapped, directed)


def test_swapped_prompts_are_caught_by_vectors_known_from_elsewhere() -> None:
    healthy, swapped = FakeDenseEncoder(**PROMPTS), Swapped(**PROMPTS)  # type: ignore[arg-type]
    first = tuple(healthy.encode_query(["audio"])[0, :4].tolist())
    known = Conditions(kind="dense", known=(("query", "audio", first),))
    check_known_vectors(healthy, known)
    with pytest.raises(ConformanceFailure, match=r"encode_query\('audio'\) is not the known vector"):
        check_known_vectors(swapped, known)


def test_the_kit_knows_when_nothing_tells_the_sides_apart() -> None:
    encoder = FakeDenseEncoder(**PROMPTS)  # type: ignore[arg-type]
    known = (("query", "a", (1.0,)), ("document", "a", (1.0,)))
    assert not can_tell_sides(encoder, DENSE)
    assert can_tell_sides(encoder, Conditions(kind="dense", known=known))  # type: ignore[arg-type]


def test_an_encoder_that_declares_one_side_must_have_one() -> None:
    check_sides_as_declared(FakeSparseEncoder(), Conditions(kind="sparse", asymmetric=False))
    with pytest.raises(ConformanceFailure, match="asymmetric = True: different vectors"):
        check_sides_as_declared(FakeSparseEncoder(), Conditions(kind="sparse", asymmetric=True))


def test_an_encoder_that_declares_nothing_about_sides_is_not_judged_on_them() -> None:
    encoder: Any = FakeDenseEncoder(**PROMPTS)  # type: ignore[arg-type]
    del encoder.asymmetric
    check_sides_as_declared(encoder, DENSE)


def test_a_text_index_must_ask_for_the_text() -> None:
    conditions = Conditions(kind="text_index")
    check_index_params(PlainWords(), conditions)
    check_text_query(PlainWords(), conditions)
    with pytest.raises(ConformanceFailure, match="depends on the text alone"):
        check_text_query(OldWords(), conditions)
