"""The pipeline: its stages run beside one another, in order, and what is on its way is bounded."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from diptych.config.models import SlotConfig
from diptych.populate.encode import Outcomes, PiecePipeline, SlotEncoder
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


def test_a_piece_is_delivered_while_the_one_before_it_is_followed_up(encoder: SlotEncoder) -> None:
    delivered, calls = [threading.Event() for _ in range(4)], list[tuple[str, int]]()

    def deliver(given: Sequence[Item], outcomes: Outcomes) -> None:
        calls.append(("delivered", number_of(given)))
        delivered[number_of(given)].set()

    def look_again(given: Sequence[Item]) -> None:
        assert delivered[min(number_of(given) + 1, 3)].wait(60)  # it comes although this one is still looked at
        calls.append(("looked at", number_of(given)))

    def keep(given: Sequence[Item]) -> None:
        calls.append(("kept", number_of(given)))

    stopped = threading.Event()
    with PiecePipeline(lambda: {"v": encoder}, deliver, then=(look_again, keep), room=4, stopped=stopped) as pipeline:
        for number in range(4):
            pipeline.put(piece(number))
    for stage in ("delivered", "looked at", "kept"):
        assert [number for name, number in calls if name == stage] == [0, 1, 2, 3]


def test_a_piece_makes_room_only_after_its_last_stage(encoder: SlotEncoder) -> None:
    on_their_way, most = set[int](), list[int]()

    def keep(given: Sequence[Item]) -> None:
        most.append(len(on_their_way))
        on_their_way.discard(number_of(given))

    stopped = threading.Event()
    with PiecePipeline(lambda: {"v": encoder}, lambda *_: None, then=(keep,), room=2, stopped=stopped) as pipeline:
        for number in range(20):
            on_their_way.add(number)
            pipeline.put(piece(number))
    assert max(most) <= 2 + 1  # with the one that waits for room


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
