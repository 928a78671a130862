"""The one stopwatch: what it calls, how often, and what it counts."""

from __future__ import annotations

from diptych.evaluate.ask import times


def test_each_item_goes_to_all_sides_before_the_next_and_warming_up_does_not_count() -> None:
    asked, counted = list[tuple[str, int]](), list[int]()
    measured = times(lambda side, item: asked.append((side, item)), "ab", [1, 2], rounds=2, advance=counted.append)
    assert measured.shape == (2, 4)
    assert counted == [1] * 4
    assert [item for _, item in asked] == [1, 1, 1, 1, 2, 2, 1, 1, 2, 2]
    assert all({side for side, _ in asked[at : at + 2]} == {"a", "b"} for at in range(0, len(asked), 2))


def test_nothing_is_timed_twice_where_calls_cost_money() -> None:
    asked = list[int]()
    assert times(lambda _, item: asked.append(item), ["remote"], [1, 2], warm_up=0).shape == (1, 2)
    assert asked == [1, 2]
