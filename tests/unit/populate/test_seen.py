from __future__ import annotations

import random

from diptych.populate.validate import ClaimResult, SeenIds

ONE, TWO = "0" * 32, "f" * 32


def test_it_agrees_with_a_dictionary_over_many_ids() -> None:
    chance, seen = random.Random(3), SeenIds()
    known: dict[str, str] = {}
    for _ in range(5000):
        identifier, content = f"id{chance.randrange(2000)}", chance.choice([ONE, TWO])
        expected = ClaimResult.FIRST if identifier not in known else ClaimResult.OTHER_CONTENT
        if known.setdefault(identifier, content) == content and expected is not ClaimResult.FIRST:
            expected = ClaimResult.SAME
        assert seen.claim(identifier, content, identifier) is expected
    assert all(seen.accounts_for(identifier, identifier) for identifier in known)
    assert not any(seen.accounts_for(identifier, f"{identifier}'") for identifier in known)
    assert not any(seen.accounts_for(f"id{number}", None) for number in range(2000, 2100))


def test_a_mentioned_id_is_accounted_for_at_any_point_and_can_be_claimed() -> None:
    seen = SeenIds()
    seen.mention("a")
    assert seen.accounts_for("a", 1)
    assert seen.accounts_for("a", "other")
    assert seen.claim("a", ONE, 7) is ClaimResult.FIRST
    seen.mention("a")
    assert [seen.claim("a", content, 7) for content in (ONE, TWO)] == [ClaimResult.SAME, ClaimResult.OTHER_CONTENT]
    assert seen.accounts_for("a", 7)
    assert not seen.accounts_for("a", 8)


def test_a_point_belongs_to_one_document() -> None:
    seen = SeenIds()
    assert [seen.claim_point(1, document) for document in "aab"] == [True, True, False]
