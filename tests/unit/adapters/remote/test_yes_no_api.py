"""A chat model that is asked for yes or no, as a reranker."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from diptych import Registry
from diptych.errors import AdapterOptionsError, RemoteError
from diptych_adapters.remote.adapters import YesNoApiReranker

if TYPE_CHECKING:
    from tests.unit.adapters.remote.conftest import Reply, Service

PAIRS = [("convert audio", "audio files"), ("convert audio", "an editor"), ("editor", "")]


def made(service: Service, **options: Any) -> YesNoApiReranker:
    settings: dict[str, Any] = {"base_url": f"{service.url}/v1", "model": "m", "backoff": 0.0, **options}
    return YesNoApiReranker(**settings)


def answered(**listed: float) -> Any:
    tokens = [{"token": token, "logprob": value} for token, value in listed.items()]
    return {"choices": [{"logprobs": {"content": [{**tokens[0], "top_logprobs": tokens}]}}]}


def test_a_score_is_the_share_of_yes_beside_no_over_all_their_spellings(service: Service) -> None:
    from tests.unit.adapters.remote.conftest import score_of

    odds = np.array([score_of(query, document) for query, document in PAIRS])
    np.testing.assert_allclose(made(service, raw_scores=True).predict(PAIRS), odds, atol=1e-5)
    np.testing.assert_allclose(made(service).predict(PAIRS), 1 / (1 + np.exp(-odds)), atol=1e-5)


def test_what_is_sent(service: Service) -> None:
    made(service, max_characters=5, fields={"seed": 1, "max_tokens": None, "max_completion_tokens": 1}).predict(
        [("q", "a document")]
    )
    assert service.seen[0].path == "/v1/chat/completions"
    content = "Does the document answer the query? Answer with one word, yes or no.\n\nQuery: q\n\nDocument: a doc"
    assert service.seen[0].body == {
        "model": "m",
        "messages": [{"role": "user", "content": content}],
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
        "seed": 1,
        "max_completion_tokens": 1,
    }


def test_no_braces_of_a_text_are_filled_in(service: Service) -> None:
    made(service, instruction="{query}?").predict([("{document}", "%s {0}")])
    assert service.seen[0].body["messages"][0]["content"] == "{query}?\n\nQuery: {document}\n\nDocument: %s {0}"


@pytest.mark.parametrize(
    ("listed", "odds"),
    [
        ({"yes": -0.1, "Maybe": -3.0}, -0.1 - math.log(1 - math.exp(-0.1) - math.exp(-3))),  # what is left is less
        ({"yes": -0.1, "Maybe": -9.0}, 8.9),  # the least listed one is less
        ({"yes": -0.1}, -0.1 - math.log(1 - math.exp(-0.1))),
        ({"yes": 0.0}, math.log(1e6)),
        ({"no": -0.1}, math.log(1 - math.exp(-0.1)) + 0.1),
        ({"no": -0.1, "Maybe": -9999.0}, math.log(1 - math.exp(-0.1)) + 0.1),  # no probability, but a sign of none
        ({"no": -0.1, "Maybe": -math.inf}, math.log(1 - math.exp(-0.1)) + 0.1),
        ({"no": 0.0, "yes": -9999.0}, -100.0),
        ({"no": 0.0, "yes": -30.0}, -30.0),
        ({"yes": -5.0, "The": -0.1}, 0.0),  # the least listed one is the word itself
    ],
)
def test_a_word_that_is_not_listed_is_bounded_by_what_the_listed_ones_leave(
    service: Service, reply: type[Reply], listed: dict[str, float], odds: float
) -> None:
    service.replies += [reply(change=lambda _: answered(**listed))] * 2
    assert made(service, raw_scores=True).predict([("q", "d")])[0] == pytest.approx(odds, abs=1e-5)
    assert made(service).predict([("q", "d")])[0] == pytest.approx(1 / (1 + math.exp(-odds)), abs=1e-6)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            answered(**{"<think>": -0.1, "The": -2.0}),
            r"(?s)does not answer as the prompt asks.*got: '<think>', 'The'.*'yes' or 'no'",
        ),
        (
            answered(**{"<think>": 0.0, "yes": -30.0}),
            r"(?s)does not answer as the prompt asks.*got: '<think>', 'yes'.*at least 0.001",
        ),
        (answered(**{"The": 0.0, "no": -80.0, "a": -9999.0}), "does not answer as the prompt asks"),
        ({"choices": [{"logprobs": None}]}, r"(?s)no log-probabilities.*top_logprobs.*do: use an endpoint"),
        ({"choices": []}, "no log-probabilities"),
        ([], "no log-probabilities"),
        (answered(yes=float("nan")), "no log-probabilities"),
        (answered(yes=3.0), "no log-probabilities"),
    ],
)
def test_unusable_answers_are_errors(service: Service, reply: type[Reply], answer: Any, message: str) -> None:
    service.replies.append(reply(change=lambda _: answer))
    with pytest.raises(RemoteError, match=message):
        made(service).predict([("q", "d")])


def test_other_words_may_be_asked_for(service: Service, reply: type[Reply]) -> None:
    service.replies.append(reply(change=lambda _: answered(Ja=-0.1, nein=-2.0)))
    assert made(service, answers=("ja", "nein"), raw_scores=True).predict([("q", "d")])[0] == pytest.approx(1.9)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (["yes", "Yes"], "'yes' and 'Yes' are one word"),
        (["yes ", "yes"], "are one word"),
        (["", "no"], "an answer is empty"),
        (["yes", " \n"], "an answer is empty"),
    ],
)
def test_answers_that_are_no_two_words_are_refused(answers: list[str], message: str) -> None:
    with pytest.raises(AdapterOptionsError, match=rf"(?s)answers.*{message}"):
        Registry.default().create("yes-no-api", {"model": "m", "answers": answers})


def test_spaces_around_an_answer_do_not_count(service: Service) -> None:
    spaced = made(service, answers=(" yes", "no\n"))
    np.testing.assert_array_equal(spaced.predict(PAIRS), made(service).predict(PAIRS))
    assert spaced.fingerprint == made(service).fingerprint


def test_the_fingerprint_is_of_what_is_sent_and_not_of_the_address(service: Service) -> None:
    plain = made(service).fingerprint
    assert made(service, timeout=9, max_concurrency=1).fingerprint == plain
    changes: list[dict[str, Any]] = [
        {"model": "n"},
        {"instruction": "Relevant?"},
        {"answers": ("ja", "nein")},
        {"raw_scores": True},
        {"max_characters": 9},
        {"fields": {"seed": 1}},
    ]
    assert len({made(service, **change).fingerprint for change in changes} | {plain}) == 7
