"""The pipeline: its stages run beside one another, in order, and what is on its way is bounded."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from diptych.config.models import SlotConfig
from diptych.populate.encode import PiecePipeline, SlotEncoder
from diptych.populate.validate import Item
from diptych.registry import Registry
from diptych.slots.slot import Slot
from diptych.types import Document


@pytest.fixture
def encoder(fakes: Registry) -> SlotEncoder:
    return SlotEncoder(Slot("dense", SlotConfig(adapter="fake-dense"), None, fakes))


def piece(number: int) -> list[Item]:
    return [Item(Document(str(number), "a cat"), "", "a cat", number, number)]


def number_of(given: Sequence[Item]) -> int:
    return given[0].position


@pytest.mark.parametrize("fails", ["delivered", "looked at"])
def test_no_later_stage_sees_a_piece_that_an_earlier_one_did_not_finish(encoder: SlotEncoder, fails: str) -> None:
    kept: list[int] = []

    def at(stage: str, given: Sequence[Item]) -> None:
        if stage == fails and number_of(given) == 2:
            raise ValueError(f"{stage} fails")

    def put_all() -> None:
        with PiecePipeline(
            lambda: {"v": encoder},
            lambda given, _: at("delivered", given),
            then=(lambda given: at("looked at", given), lambda given: kept.append(number_of(given))),
            room=2,
            stopped=threading.Event(),
        ) as pipeline:
            for number in range(9):
                pipeline.put(piece(number))

    with pytest.raises(ValueError, match=f"{fails} fails"):
        put_all()
    assert kept == list(range(len(kept)))
    assert len(kept) <= 2
