"""Synthetic queries: sampled, written, sifted, and accounted for."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from diptych import Document, Registry, hookimpl
from diptych.generation import QueryRequest
from diptych_training import hooks
from diptych_training.data.generators import Generator
from diptych_training.data.synthetic import (
    LeakIndex,
    normalized_words,
    sampled,
    synthesize,
)
from diptych_training.options import SyntheticQueries

RANDOM = np.random.default_rng(0)
WORDS = [f"word{n}" for n in range(60)]
TEXTS = {
    f"d{n}": ". ".join(" ".join(RANDOM.choice(WORDS, 5)) for _ in range(1 + n % 5)).capitalize() + "."
    for n in range(40)
}
DOCUMENTS = [Document(identifier, text) for identifier, text in TEXTS.items()]
TEMPLATES = Generator("templates", registry=Registry(hooks, installed=False))


class Parrot:
    """Says the same thing four times, once in other letters."""

    @hookimpl
    def diptych_generate_queries(self, request: QueryRequest) -> list[list[str]] | None:
        if request.generator != "parrot":
            return None
        return [
            [f"find {d.text}", f"Find: {d.text}", f"please find {d.text}", f"quite another {d.id}"][: request.count]
            for d in request.documents
        ]


PARROT = Generator("parrot", registry=Registry(Parrot(), installed=False))


@settings(deadline=None, max_examples=50)
@given(count=st.integers(0, 40), more=st.integers(0, 20), strata=st.integers(1, 6), seed=st.integers(0, 3))
def test_a_sample_is_spread_over_lengths_and_begins_as_a_smaller_one(
    count: int, more: int, strata: int, seed: int
) -> None:
    small, large = (sampled(TEXTS, size, strata=strata, seed=seed) for size in (count, count + more))
    assert large[:count] == small
    assert len(set(small)) == len(small) == min(count, len(TEXTS))
    by_length = sorted(TEXTS, key=lambda i: len(TEXTS[i].split()))
    for stratum in np.array_split(np.array(by_length), strata):
        taken = len(set(stratum.tolist()) & set(small))
        assert abs(taken - count * len(stratum) / len(TEXTS)) <= 1.0 + 1e-9


@settings(deadline=None, max_examples=60)
@given(
    tests=st.lists(st.lists(st.sampled_from(WORDS[:6]), min_size=1, max_size=7), max_size=4),
    text=st.lists(st.sampled_from(WORDS[:6]), max_size=8),
)
def test_a_text_leaks_exactly_when_it_shares_so_many_words_in_a_row_or_is_the_query(
    tests: list[list[str]], text: list[str]
) -> None:
    said = ", ".join(text).upper()
    shared = any(
        text[i : i + 3] == own[j : j + 3] for own in tests for i in range(len(text) - 2) for j in range(len(own) - 2)
    )
    assert (said in LeakIndex([" ".join(own) for own in tests], words=3)) == (shared or text in tests)


def test_no_query_that_stays_gives_away_a_test_query() -> None:
    tests = [" ".join(TEXTS[f"d{n}"].split()[:4]) for n in range(0, 40, 3)]
    options = SyntheticQueries(documents=40, density=4, styles=("first", "long"), leak_words=3)
    found = synthesize(DOCUMENTS, TEMPLATES, options, test_queries=tests)
    runs = {
        tuple(words[i : i + 3]) for text in tests for words in [normalized_words(text)] for i in range(len(words) - 2)
    }
    for query in found.queries:
        words = normalized_words(query.text)
        assert not runs & {tuple(words[i : i + 3]) for i in range(len(words) - 2)}
    assert found.report.dropped["leak"] >= 13


def test_everything_written_is_kept_or_counted_and_density_is_at_most_what_was_asked() -> None:
    for density in (1, 2, 5):
        options = SyntheticQueries(documents=25, density=density, styles=("question", "keywords", "claim"))
        found = synthesize(DOCUMENTS, TEMPLATES, options)
        report = found.report
        assert report.written == report.kept + sum(report.dropped.values()) <= report.asked == 25 * density
        assert 0 < report.effective_density <= density
        assert set(report.silent) | {query.document for query in found.queries} == set(sampled(TEXTS, 25))
        assert len({query.id for query in found.queries}) == len(found.queries), "ids are unique"


def test_near_duplicates_within_a_document_go_and_the_report_says_so() -> None:
    options = SyntheticQueries(documents=10, density=4, styles=("any",), near=0.8)
    found = synthesize(DOCUMENTS, PARROT, options)
    assert found.report.dropped == {"same text": 10, "near-duplicate": 10}
    assert found.report.effective_density == 2.0
    assert "20 queries for 10 documents (2.00 each), of 40 written" in str(found.report)
