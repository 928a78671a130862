from __future__ import annotations

import json
import logging
import multiprocessing
import pickle
import re
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from diptych.errors import ConfigError, RemoteError
from diptych_adapters.remote.endpoint import Endpoint
from diptych_adapters.remote.http_exchange import Key
from diptych_adapters.remote.options import RemoteOptions

if TYPE_CHECKING:
    from tests.unit.adapters.remote.conftest import Reply, Service

KEY = "sk-very-secret-0123456789"
NEVER = 3600.0  # seconds: not before the service is closed


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


def endpoint(url: str, **options: Any) -> Endpoint:
    patience = {"backoff": 0.001, "timeout": 60.0, "retries": 3, "api_key_env": "TEST_KEY"}
    return Endpoint(RemoteOptions(base_url=url, **(patience | options)), name="test")


def test_a_key_travels_as_bearer_or_in_the_named_header(service: Service) -> None:
    endpoint(service.url).post("/embed", {"inputs": []})
    endpoint(service.url, api_key_header="api-key").post("/embed", {"inputs": []})
    endpoint(service.url, api_key_env=None).post("/embed", {"inputs": []})
    assert service.seen[0].headers["authorization"] == f"Bearer {KEY}"
    assert service.seen[1].headers["api-key"] == KEY
    assert "authorization" not in service.seen[1].headers
    assert not {"authorization", "api-key"} & set(service.seen[2].headers)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_passing_failures_are_tried_again(service: Service, reply: type[Reply], status: int) -> None:
    service.replies = [reply(status=status, body=b"wait"), reply(status=status, body=b"wait")]
    assert endpoint(service.url).post("/embed", {"inputs": []}) == []
    assert len(service.seen) == 3


def test_a_kept_connection_that_the_server_closed_is_opened_again_and_costs_no_attempt(
    service: Service, vector_of: Callable[[str], list[float]]
) -> None:
    service.once = True
    patient = endpoint(service.url, retries=0, max_concurrency=3)
    for _ in range(3):
        assert patient.post_each("/embed", [{"inputs": ["convert"]}] * 3) == [[vector_of("convert")]] * 3
    assert len(service.seen) > 9  # kept connections were tried, and closed


def test_a_connection_that_is_closed_when_it_is_new_costs_an_attempt(service: Service, reply: type[Reply]) -> None:
    impatient = endpoint(service.url, retries=0)
    service.replies = [reply(hang_up=True)]
    with pytest.raises(RemoteError, match=r"does not answer\n"):
        impatient.post("/embed", {"inputs": []})
    assert len(service.seen) == 1
    assert impatient.post("/embed", {"inputs": []}) == []
    service.replies = [reply(hang_up=True), reply(hang_up=True)]  # the kept one, then its successor
    with pytest.raises(RemoteError, match=r"does not answer\n"):
        impatient.post("/embed", {"inputs": []})
    assert len(service.seen) == 4


def test_retries_end_with_the_last_answer_and_their_number(service: Service, reply: type[Reply]) -> None:
    service.replies = [reply(status=503, body=b"loading the model")] * 9
    with pytest.raises(RemoteError, match=r"answered 503, 4 attempts\n.*/embed.*\n.*loading the model") as caught:
        endpoint(service.url).post("/embed", {"inputs": []})
    assert (caught.value.context["status"], caught.value.context["attempts"]) == (503, 4)
    assert len(service.seen) == 4


NO_CREDIT = b"insufficient_quota "


@pytest.mark.parametrize(
    ("status", "text", "begin"),
    [
        (400, "", b""), (401, "check the key", b""), (404, "model's name", b""), (413, "batch_size", b""),
        (429, "max_concurrency", NO_CREDIT), (501, "", b""),
    ],
)  # fmt: skip
def test_a_refusal_is_not_repeated_and_shows_200_characters(
    service: Service, reply: type[Reply], status: int, text: str, begin: bytes
) -> None:
    service.replies = [reply(status=status, body=b"no! x" + begin + b"x" * 1000)]
    with pytest.raises(RemoteError, match=f"answered {status}(.|\n)*got: no! x(.|\n)*{text}") as caught:
        endpoint(service.url).post("/embed", {"inputs": []})
    assert len(service.seen) == 1
    assert len(caught.value.got) == 200


def test_retry_after_is_waited_for(service: Service, reply: type[Reply]) -> None:
    service.replies = [reply(status=429, headers={"retry-after": "0.3"}, body=b"slow down")]
    start = time.monotonic()
    endpoint(service.url).post("/embed", {"inputs": []})
    assert time.monotonic() - start >= 0.3


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_told_and_not_followed(
    service: Service, other_service: Service, reply: type[Reply], status: int
) -> None:
    service.replies = [reply(status=status, headers={"location": other_service.url + "/embed"}, body=b"")]
    with pytest.raises(RemoteError, match=rf"redirects(.|\n)*{status} to {other_service.url}(.|\n)*set base_url"):
        endpoint(service.url).post("/embed", {"inputs": []})
    assert other_service.seen == []


def test_answers_keep_the_order_of_the_requests_and_the_limit_on_concurrency(
    service: Service, reply: type[Reply]
) -> None:
    service.replies = [reply(beside=2), *(reply(delay=delay) for delay in (0.1, 0.05, 0.0, 0.1, 0.0))]
    bodies = [{"ids": [[n % 4]]} for n in range(12)]
    answers = endpoint(service.url, max_concurrency=3).post_each("/decode", bodies)
    assert answers == [["convert"], ["audio"], ["files"], ["editor"]] * 3
    assert 1 < service.most_at_once <= 3


def test_the_first_failure_ends_the_other_requests(service: Service, reply: type[Reply]) -> None:
    soon = {"retry-after": "30"}  # else the wait is drawn, and may be short
    service.replies = [reply(status=503, headers=soon, body=b"busy"), reply(status=400, body=b"bad", delay=0.1)]
    with pytest.raises(RemoteError, match="answered 400"):
        endpoint(service.url, max_concurrency=2).post_each("/embed", [{"inputs": []}] * 50)
    assert len(service.seen) < 10


def test_the_key_is_in_no_error_repr_or_log(
    service: Service, reply: type[Reply], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    patient, asked = (endpoint(service.url, retries=1, timeout=seconds) for seconds in (60.0, 0.2))
    service.replies = [
        reply(status=401, body=f"Incorrect API key provided: {KEY}".encode()),
        reply(body=f"not json {KEY}".encode()),
        reply(status=302, headers={"location": "http://elsewhere/"}, body=b""),
        reply(delay=NEVER),
        reply(hang_up=True),
    ]
    shown = [repr(asked), repr(vars(asked)), repr(asked._make_client().auth), repr(Key(KEY)), str(Key(KEY))]
    for way in (patient, patient, patient, asked):
        with pytest.raises(RemoteError) as caught:
            way.post("/embed", {"inputs": []})
        shown += [str(caught.value), repr(vars(caught.value)), "".join(traceback.format_exception(caught.value))]
        assert caught.value.__cause__ is None
    assert any("***" in text for text in shown)
    assert KEY not in "\n".join(shown) + caplog.text


REFUSED: list[tuple[str, str, list[str]]] = [  # what is set, the text of the error, values
    ("api_key_env", "api_key_env is not the name of an environment variable", [KEY, "hf_abcDEF", "a b", "", "${X}"]),
    ("TEST_KEY", r"variable TEST_KEY is not set(.|\n)*export TEST_KEY", ["", "  "]),
    (
        "TEST_KEY",
        "key in environment variable TEST_KEY cannot be sent",
        ["sk-one\nsk-two", "sk-1 2", "sk-ф", "sk-\0"],
    ),
    ("base_url", "base_url holds more than an address", [f"http://{own}" for own in (f"me:{KEY}@h", f"h/v?k={KEY}")]),
    ("base_url", "base_url holds more than an address", [f"http://host#{KEY}"]),
    ("base_url", r"not an address of a web server(.|\n)*http\(s\)://host/path", ["h:80", "ftp://host", "http://", ""]),
]


@pytest.mark.parametrize(("name", "message", "value"), [(*row, value) for *row, values in REFUSED for value in values])
def test_an_unusable_key_or_address_is_refused_and_no_secret_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, message: str, value: str
) -> None:
    if name == "TEST_KEY":
        monkeypatch.setattr("os.environ", {"TEST_KEY": value})
    options = {"api_key_env": value} if name == "api_key_env" else {}
    with pytest.raises(ConfigError, match=message) as caught:
        endpoint(value if name == "base_url" else "http://localhost", **options)
    assert KEY not in str(caught.value)
    assert "sk-" not in str(caught.value)
    assert name != "api_key_env" or not value or value not in str(caught.value)


def test_a_key_cannot_be_pickled_along() -> None:
    with pytest.raises(TypeError, match="a key is not pickled"):
        pickle.dumps(Key(KEY))


@pytest.mark.parametrize("shown", [KEY, KEY[:20], f"{KEY[:12]}...", json.dumps({"key": KEY}), f"x{KEY}{KEY}y"])
@pytest.mark.parametrize("before", [0, 150, 170, 178, 185, 190, 195, 199])
def test_no_part_of_the_key_is_shown_where_an_error_cuts_text(
    service: Service, reply: type[Reply], before: int, shown: str
) -> None:
    text = "x" * before + shown
    asked = endpoint(service.url, retries=0)
    service.replies = [
        reply(status=400, body=text.encode()),
        reply(body=b"no JSON " + text.encode()),
        reply(status=302, headers={"location": f"http://elsewhere/{text}"}, body=b""),
    ]
    for _ in range(3):
        with pytest.raises(RemoteError) as caught:
            asked.post("/embed", {"inputs": []})
        assert KEY[:6] not in str(caught.value)
        assert KEY[8:] not in str(caught.value)
    error = asked.error("another form", "/embed", got=repr([text, {"message": text}]))
    assert KEY[:6] not in str(error)


def test_what_could_steer_a_terminal_is_shown_escaped(service: Service, reply: type[Reply]) -> None:
    service.replies = [reply(status=400, body=b"\x1b[2Jgone \xff \xed\xa0\x80")]
    with pytest.raises(RemoteError, match=r"got: \\x1b\[2Jgone") as caught:
        endpoint(service.url).post("/embed", {"inputs": []})
    assert str(caught.value).replace("\n", "").isprintable()


def test_all_retries_and_waits_end_with_the_deadline(service: Service, reply: type[Reply]) -> None:
    while len(service.seen) < 2:  # a busy machine may take all the time for one
        service.seen, service.replies = [], [reply(status=503, body=b"busy", delay=0.05)] * 1000
        with pytest.raises(RemoteError) as caught:
            endpoint(service.url, retries=1000, deadline=0.5).post("/embed", {"inputs": []})
    assert re.search(r"no answer within its deadline of 0\.5 s, \d+ attempts(.|\n)*answered 503", str(caught.value))
    assert len(service.seen) <= 0.5 / 0.05 + 1


def test_a_retry_after_beyond_the_deadline_is_not_waited_for(service: Service, reply: type[Reply]) -> None:
    service.replies = [reply(status=429, headers={"retry-after": "50"}, body=b"slow down")]
    start = time.monotonic()
    with pytest.raises(RemoteError, match=r"answered 429\n"):
        endpoint(service.url, deadline=20.0).post("/embed", {"inputs": []})
    assert time.monotonic() - start < 15


def test_a_child_process_asks_over_connections_of_its_own(service: Service) -> None:
    shared = endpoint(service.url)
    assert shared.post("/embed", {"inputs": []}) == []
    fork = multiprocessing.get_context("fork")
    answers, given = fork.Pipe(duplex=False)
    child = fork.Process(target=lambda: given.send(shared.post("/embed", {"inputs": []})))
    child.start()
    assert answers.poll(60)
    assert answers.recv() == []
    child.join()
    assert shared.post("/embed", {"inputs": []}) == []


@pytest.mark.slow
def test_many_threads_share_an_encoder_and_no_request_loses_its_connection(service: Service) -> None:
    shared = endpoint(service.url, retries=0, timeout=10.0, max_concurrency=4)

    def ask(n: int) -> Any:
        return shared.post("/embed", {"inputs": [f"text {n}"]})

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(200)))
    assert found == [ask(n) for n in range(200)]
    assert 1 < service.most_at_once <= 4
