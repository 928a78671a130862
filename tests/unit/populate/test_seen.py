from __future__ import annotations

import random

import pytest

from diptych.populate import validate
from diptych.populate.validate import ClaimResult, SeenIds

ONE, TWO = "0" * 32, "f" * 32


@pytest.mark.parametrize("newest", [1, 7, 8192], ids=["each at once", "some at a time", "all in memory"])
@pytest.mark.parametrize("bits", [64, 1 << 27], ids=["a filter that is full", "a filter with room"])
def test_it_agrees_with_a_dictionary_over_many_ids(monkeypatch: pytest.MonkeyPatch, newest: int, bits: int) -> None:
    monkeypatch.setattr(validate, "NEWEST", newest)
    monkeypatch.setattr(validate, "FILTER_BITS", bits)
    chance = random.Random(3)
    known: dict[str, str] = {}
    with SeenIds() as seen:
        for _ in range(5000):
            identifier, content = f"id{chance.randrange(2000)}", chance.choice([ONE, TWO])
            expected = ClaimResult.FIRST if identifier not in known else ClaimResult.OTHER_CONTENT
            if known.setdefault(identifier, content) == content and expected is not ClaimResult.FIRST:
                expected = ClaimResult.SAME
            assert seen.claim(identifier, content, identifier) is expected
        assert all(seen.accounts_for(identifier, identifier) for identifier in known)
        assert not any(seen.accounts_for(f"id{number}", None) for number in range(2000, 2100))


@pytest.mark.parametrize("newest", [1, 8192])
def test_a_mentioned_id_is_accounted_for_at_any_point_and_can_be_claimed(
    monkeypatch: pytest.MonkeyPatch, newest: int
) -> None:
    monkeypatch.setattr(validate, "NEWEST", newest)
    with SeenIds() as seen:
        seen.mention("a")
        assert seen.accounts_for("a", 1)
        assert seen.accounts_for("a", "other")
        assert seen.claim("a", ONE, 7) is ClaimResult.FIRST
        seen.mention("a")
        assert [seen.claim("a", content, 7) for content in (ONE, TWO)] == [ClaimResult.SAME, ClaimResult.OTHER_CONTENT]
        assert seen.accounts_for("a", 7)
        assert not seen.accounts_for("a", 8)


def test_only_the_point_of_this_run_is_accounted_for() -> None:
    with SeenIds() as seen:
        seen.claim("a", ONE, 7)
        assert seen.accounts_for("a", 7)
        assert not seen.accounts_for("a", "8")
        assert not seen.accounts_for("b", 7)


def test_a_point_belongs_to_one_document() -> None:
    with SeenIds() as seen:
        assert seen.claim_point(1, "a")
        assert seen.claim_point(1, "a")
        assert not seen.claim_point(1, "b")
