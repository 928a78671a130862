"""What mining keeps and leaves out, against the rules written down one by one."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from diptych import Collection, Registry
from diptych.config import parse_config
from diptych.testing import fakes_plugin
from diptych_training.data.mining import CollectionSource, SearchResult, mine
from diptych_training.options import NegativesOptions


class Ranked:
    """A source with given scores; texts are the ids unless given."""

    def __init__(self, scores: dict[str, dict[str, float]], texts: dict[str, str] | None = None) -> None:
        self.scores = scores
        self.known = {i: i for own in scores.values() for i in own} if texts is None else texts

    def find(self, queries: Sequence[str], named: Sequence[Sequence[str]], depth: int) -> list[SearchResult]:
        rankings = [sorted(self.scores[q].items(), key=lambda pair: -pair[1]) for q in queries]
        return [
            SearchResult(own[:depth], {i: dict(own)[i] for i in ids if i in dict(own)})
            for own, ids in zip(rankings, named, strict=True)
        ]

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        return {i: self.known[i] for i in ids if i in self.known}


SCORES = st.dictionaries(st.sampled_from([f"d{n}" for n in range(12)]), st.floats(-1, 1, width=16), min_size=3)


@settings(deadline=None, max_examples=150)
@given(
    scores=SCORES,
    relevant=st.sets(st.sampled_from([f"d{n}" for n in range(12)]), min_size=1, max_size=3),
    first=st.integers(1, 3),
    width=st.integers(1, 9),
    count=st.integers(1, 4),
    relative=st.none() | st.floats(0.5, 1),
)
def test_negatives_are_the_first_that_pass_every_rule_and_every_candidate_is_accounted_for(
    scores: dict[str, float],
    relevant: set[str],
    first: int,
    width: int,
    count: int,
    relative: float | None,
) -> None:
    options = NegativesOptions(first_rank=first, last_rank=first + width, per_query=count, relative=relative)
    qrels = {"q": dict.fromkeys(relevant, 1.0)}
    source = Ranked({"q": scores}, {f"d{n}": f"d{n}" for n in range(12)})
    found = mine(source, {"q": "q"}, qrels, options)

    window = sorted(scores.items(), key=lambda pair: -pair[1])[first - 1 : first + width]
    known = [scores[i] for i in relevant if i in scores]
    wanted = []
    for document, score in window:
        near = bool(known) and relative is not None and score > max(known) - (1 - relative) * abs(max(known))
        if document not in relevant and not near:
            wanted.append((document, score))
    assert found.negatives == {"q": wanted[:count]}
    report = found.report
    assert report.candidates == len(window) == report.kept + sum(report.dropped.values())
    assert report.dropped.get("judged", 0) == sum(document in relevant for document, _ in window)
    assert report.short == ({"q": len(wanted)} if len(wanted) < count else {})
    assert report.unscored == (() if known else ("q",))


def test_what_says_the_same_as_a_relevant_one_or_vanished_is_left_out_and_what_is_judged_irrelevant_is_not() -> None:
    texts = {"a": "The  Cat", "b": "the cat", "c": "a dog"}
    source = Ranked({"q": {"a": 0.9, "b": 0.8, "c": 0.1, "d": 0.05}}, texts)
    options = NegativesOptions(first_rank=2, per_query=3, relative=None)
    found = mine(source, {"q": "q"}, {"q": {"a": 1.0, "c": 0.0}}, options)
    assert found.negatives == {"q": [("c", 0.1)]}
    assert found.report.dropped == {"same text": 1, "gone": 1}


def test_queries_without_enough_or_without_a_positive_are_named() -> None:
    source = Ranked({"q": {"a": 0.9, "b": 0.1}, "r": {"a": 0.9}})
    found = mine(
        source,
        {"q": "q", "r": "r", "s": "s"},
        {"q": {"a": 1.0}, "r": {"x": 1.0}},
        NegativesOptions(first_rank=2, per_query=2),
    )
    assert found.report.short == {"q": 1, "r": 0}
    assert (found.report.unscored, found.report.unjudged) == (("r",), ("s",))
    for part in (
        "1 negatives for 2 queries",
        "fewer than wanted: 2 queries (q, r)",
        "without a positive: 1 queries (s)",
    ):
        assert part in str(found.report)


def test_negatives_come_out_of_a_live_collection() -> None:
    slots = {"dense": {"adapter": "fake-dense"}, "lexical": {"adapter": "fake-sparse"}}
    config = {"store": "memory:", "collection": "animals", "slots": slots, "cache": {"enabled": False}}
    texts = {
        "a": "the cat sleeps",
        "b": "the cat sleeps",
        "c": "the cat runs away",
        "d": "dogs bark",
        "e": "a cat sleeps",
    }
    with Collection.open(parse_config(config), registry=Registry(fakes_plugin, installed=False)) as animals:
        animals.populate({"id": key, "text": text} for key, text in texts.items())
        options = NegativesOptions(last_rank=5, per_query=2)
        source = CollectionSource(animals, slot="dense")
        found = mine(source, {"q": "cat sleeps"}, {"q": {"a": 1.0}}, options)
    (own,) = found.negatives.values()
    assert "b" not in dict(own), "it says what the relevant one says"
    assert "c" in dict(own)
    assert found.report.candidates == 5
