from __future__ import annotations

import concurrent.futures
import gzip
import json
import math
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from diptych.errors import ContractError, RemoteError
from diptych_adapters.remote.adapters import ApiReranker, OpenAIEncoder, TeiEncoder, TeiReranker, TeiSparseEncoder
from faulty_server import Script, drip, faulty_server, flood, hang, reset, send

TIMEOUT, DEADLINE = 0.5, 1.5
WAITS = {"timeout": TIMEOUT, "deadline": DEADLINE, "query_deadline": DEADLINE}
RETRIES: dict[str, Any] = {"retries": 1, "backoff": 0.001}
PATIENCE: dict[str, Any] = {**WAITS, **RETRIES}
LONG = {
    "timeout": 30.0,
    "deadline": 90.0,
    "query_deadline": 90.0,
}  # for faults that are met at once, however busy the machine
VECTORS = [[1.0, 0.0, 0.5, -2.0], [0.25, 3.0, 0.0, 1.0]]
SCORES = [0.25, 0.75]
GOOD = {"data": [{"index": n, "embedding": row} for n, row in enumerate(VECTORS)], "model": "m"}
GOOD_SPARSE = [[{"index": 3, "value": 0.5}], []]
GOOD_RANKS = [{"index": 1, "score": 0.75}, {"index": 0, "score": 0.25}]
API_BEST = {"index": 1, "relevance_score": 0.75}
RIGHT = "right"  # the fault does no harm


def answer(content: Any, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body) if length is None else length}"]
    lines += ["connection: close", *headers]  # the server does, and a retry must not meet the connection it closes
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*chunks: bytes, ended: bool = True) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    parts = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks]
    return head + b"".join(parts) + (b"0\r\n\r\n" if ended else b"")


def data(*rows: Any) -> Any:
    return {"data": [{"index": n, "embedding": row} for n, row in enumerate(rows)]}


def indexed(*indices: Any) -> Any:
    return {"data": [{"index": n, "embedding": VECTORS[0]} for n in indices]}


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


BODY = json.dumps(GOOD).encode()
PACKED = gzip.compress(BODY)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"

WIRE: dict[str, tuple[Script, str]] = {
    # Slow or silent
    "never answers": (hang(), "no complete answer within 0.5 s"),
    "drips headers": (drip(HEAD, b"x: y\r\n", every=0.05), "no complete answer"),
    "drips its body": (drip(HEAD + b"content-length: 90000\r\n\r\n", b" ", every=0.1), "no complete answer"),
    "drips chunks": (drip(HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n", every=0.05), "no complete"),
    "stops within the body": (hang(answer(BODY[:40], length=len(BODY))), "no complete answer"),
    "stops within a chunk": (hang(chunked(BODY, ended=False)), "no complete answer"),
    "stops within a redirect": (hang(answer(b"", "location: /x", status="302 Found", length=9)), "redirects"),
    "says continue for ever": (flood(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "no complete answer|does not answer"),
    # Broken off
    "closes at once": (send(), "does not answer"),
    "closes within the body": (send(answer(BODY[:40], length=len(BODY))), "does not answer"),
    "resets within the body": (reset(answer(BODY[:40], length=len(BODY))), "does not answer"),
    "closes within an overload": (send(answer(b"busy", status="503 Busy", length=99)), "does not answer"),
    # Lengths and chunks
    "promises more than it sends": (send(answer(BODY, length=len(BODY) + 1)), "does not answer"),
    "promises less than it sends": (send(answer(BODY, length=len(BODY) - 1)), "not JSON"),
    "sends nothing": (send(answer(b"")), "not JSON"),
    "has a length that is not a number": (send(HEAD + b"content-length: many\r\n\r\n" + BODY), "does not answer"),
    "has a length of 5,000 digits": (
        send(HEAD + b"content-length: " + b"9" * 5000 + b"\r\n\r\n" + BODY), "does not answer|too large"),
    "has a huge length": (hang(HEAD + b"content-length: 999999999999\r\n\r\n"), "no complete answer|too large"),
    "has no length and closes": (send(HEAD + b"\r\n" + BODY), RIGHT),
    "has a chunk with too many digits": (
        send(HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 400 + b"\r\n"), "does not answer|too large"),
    "has small chunks": (send(chunked(*(BODY[n : n + 1] for n in range(len(BODY))))), RIGHT),
    "never ends": (flood(HEAD + b"\r\n", b" " * 65_536), "too large|no complete answer"),
    "never ends refusing": (flood(b"HTTP/1.1 400 Bad\r\n\r\n", b"no " * 9000), "answered 400"),
    "never ends redirecting": (flood(b"HTTP/1.1 307 Go\r\nlocation: /x\r\n\r\n", b"x" * 65_536), "redirects"),
    # Protocol
    "speaks no HTTP": (send(b"SSH-2.0-OpenSSH_9.7\r\n"), "does not answer"),
    "speaks HTTP/0.9": (send(BODY), "does not answer"),
    "speaks HTTP/1.0": (send(answer(BODY).replace(b"1.1", b"1.0", 1)), RIGHT),
    "has status 999": (send(answer(BODY, status="999 Odd")), "answered 999|does not answer"),
    "has a status that is not a number": (send(answer(BODY, status="OK 200")), "does not answer"),
    "switches protocols": (
        hang(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"), "does not answer"),
    "has no content": (send(b"HTTP/1.1 204 No Content\r\n\r\n"), "not JSON"),
    "has a huge header": (send(HEAD + b"x: " + b"y" * 5_000_000 + b"\r\n\r\n"), "does not answer"),
    "has a header that is not text": (send(answer(BODY, "x-odd: \xff\xfe\x80")), RIGHT),
    "has odd cookies": (send(answer(BODY, "set-cookie: " + "a=b; " * 900, "set-cookie: =;;;expires=x")), RIGHT),
    # Compression
    "is packed": (send(answer(PACKED, "content-encoding: gzip")), "not asked for"),
    "is packed refusing": (send(answer(PACKED, "content-encoding: gzip", status="400 Bad")), "answered 400"),
    "is packed but does not say so": (send(answer(PACKED)), "not JSON"),
    # Refusals
    "redirects to itself": (send(answer(b"", "location: /v1/embeddings", status="307 Go")), "redirects"),
    "redirects far": (send(answer(b"", "location: http://x/" + "y" * 60_000, status="308 Go")), "redirects"),
    "is not modified": (send(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "answered 304"),
    "asks for a key": (send(answer({"error": "key"}, status="401 Unauthorized")), "answered 401(.|\n)*check the key"),
    "is unavailable with pages": (send(answer(b"<html>" * 50_000, status="503 Busy")), "answered 503"),
    "wants patience of years": (send(answer(b"", "retry-after: 999999999", status="429 Slow")), "answered 429"),
    "wants negative patience": (send(answer(b"", "retry-after: -86400", status="429 Slow")), "answered 429, 2 att"),
    "wants patience that is not a number": (send(answer(b"", "retry-after: soon", status="503 Busy")), "503, 2 att"),
    "wants patience until year 99999": (
        send(answer(b"", "retry-after: Fri, 31 Dec 99999 23:59:59 GMT", status="503 Busy")), "answered 503"),
    "wants patience of 6,000 digits": (
        send(answer(b"", "retry-after: " + "9" * 6000, status="429 Slow")), "answered 429"),
}  # fmt: skip

DENSE: dict[str, tuple[Any, str]] = {
    "a page": (b"<html><body>Welcome to nginx</body></html>", "not JSON"),
    "text": ("fine", "malformed"),
    "an error with status 200": ({"error": {"message": "overloaded"}}, "malformed(.|\n)*overloaded"),
    "an empty object": ({}, "malformed"),
    "a list": (VECTORS, "malformed"),
    "data that is null": ({"data": None}, "malformed"),
    "data of numbers": ({"data": [1, 2]}, "malformed"),
    "data without embeddings": ({"data": [{"index": 0}, {"index": 1}]}, "malformed"),
    "no vectors": ({"data": []}, "once for each input"),
    "one vector too few": (data(VECTORS[0]), "once for each input"),
    "another order with indices": ({"data": GOOD["data"][::-1]}, RIGHT),
    "no indices": ({"data": [{"embedding": row} for row in VECTORS]}, RIGHT),
    "one index twice": (indexed(0, 0), "once for each input"),
    "indices that are text": (indexed("0", "1"), "once for each input"),
    "indices that are NaN": (indexed(math.nan, math.nan), "once for each input"),
    "huge indices": (indexed(10**30, 10**40), "once for each input"),
    "text in a vector": (data(["a", "b", "c", "d"], VECTORS[1]), "not numbers"),
    "one number as text": (data([1.0, "2", 3.0, 4.0], VECTORS[1]), "not numbers"),
    "lists in a vector": (data([[1], [2], [3], [4]], [[1], [2], [3], [4]]), "not numbers"),
    "truths in a vector": (data([True] * 4, [False] * 4), "not numbers"),
    "NaN in a vector": (data([math.nan, 0, 0, 0], VECTORS[1]), "nan"),
    "a null in a vector": (data([None, 0, 0, 0], VECTORS[1]), "nan"),
    "nothing but nulls": (data([None] * 4, [None] * 4), "nan"),
    "numbers beyond float32": (data([1e39, 0, 0, 0], VECTORS[1]), "nan"),
    "integers of 400 digits": (data([10**400, 0, 0, 0], VECTORS[1]), "not numbers"),
    "integers of 5,000 digits": (json.dumps(data([11], VECTORS[1])).replace("11", "9" * 5000).encode(), "not JSON"),
    "a vector that is null": (data(None, VECTORS[1]), "wrong dimension"),
    "a vector that is an object": (data({"0": 1}, {"0": 2}), "wrong dimension"),
    "vectors of several lengths": (data(VECTORS[0], VECTORS[1][:2]), "wrong dimension"),
    "vectors of another length": (data(VECTORS[0] * 2, VECTORS[1] * 2), "wrong dimension"),
    "a vector that is no base64": (data("@@@@", VECTORS[1]), "base64"),
    "a vector in base64 that is too short": (data("AAAAAA==", VECTORS[1]), "wrong dimension"),
    "deep lists": (nested(100_000), "too deeply|not JSON"),
    "two answers": (BODY + BODY, "not JSON"),
    "a byte order mark": (b"\xef\xbb\xbf" + BODY, RIGHT),
    "UTF-16": (BODY.decode().encode("utf-16"), RIGHT),
    "bytes that are no text": (b"\xff\xfe\xff\xfe\x00\xd8", "not JSON"),
    "lone surrogates": (b'{"data": [{"index": 0, "embedding": "\\ud800"}, {"index": 1, "embedding": []}]}', "base64"),
    "an escape for terminals": ({"error": "\x1b]0;owned\x07"}, r"malformed"),
    "keys twice": (b'{"data": [], "data": ' + json.dumps(GOOD["data"]).encode() + b"}", RIGHT),
}  # fmt: skip

OTHERS: dict[str, tuple[str, Any, str]] = {
    "tei: right": ("tei", VECTORS, RIGHT),
    "tei: packed as text": ("tei", ["AAAA", "AAAA"], "wrong dimension"),
    "tei: an error": ("tei", {"error": "overloaded", "error_type": "overloaded"}, "overloaded"),
    "tei: vectors of tokens": ("tei", [[[0.5] * 4] * 3, [[0.5] * 4] * 2], "wrong dimension"),
    "sparse: right": ("tei-sparse", GOOD_SPARSE, RIGHT),
    "sparse: one too few": ("tei-sparse", GOOD_SPARSE[:1], "wrong number"),
    "sparse: a term twice": ("tei-sparse", [[{"index": 1, "value": 1.0}] * 2, []], "names a term twice"),
    "sparse: a negative term": ("tei-sparse", [[{"index": -1, "value": 1.0}], []], "malformed"),
    "sparse: a huge term": ("tei-sparse", [[{"index": 2**32, "value": 1.0}], []], "malformed"),
    "sparse: a weight as text": ("tei-sparse", [[{"index": 1, "value": "1"}], []], "malformed"),
    "sparse: a weight of NaN": ("tei-sparse", [[{"index": 1, "value": math.nan}], []], "nan"),
    "sparse: pairs": ("tei-sparse", [[[1, 0.5]], []], "malformed"),
    "rank: right": ("tei-reranker", GOOD_RANKS, RIGHT),
    "rank: one too few": ("tei-reranker", GOOD_RANKS[:1], "once for each input"),
    "rank: a score as text": ("tei-reranker", [{"index": 0, "score": "0.5"}, GOOD_RANKS[0]], "not numbers"),
    "rank: a score of NaN": ("tei-reranker", [{"index": 0, "score": math.nan}, GOOD_RANKS[0]], "NaN or infinite"),
    "rank: two scores": ("tei-reranker", [{"index": 0, "score": [1, 2]}, GOOD_RANKS[0]], "wrong dimension"),
    "rank: bare scores": ("tei-reranker", SCORES, "malformed"),
    "api: right": ("rerank-api", {"results": [{"index": 0, "relevance_score": 0.25}, API_BEST]}, RIGHT),
    "api: only the best": ("rerank-api", {"results": [API_BEST]}, "once for each input"),
    "api: another name": ("rerank-api", {"results": GOOD_RANKS}, "malformed"),
    "api: an error": ("rerank-api", {"message": "invalid api token"}, "invalid api token"),
}  # fmt: skip


def asked(name: str, url: str, **options: Any) -> Any:
    """What the adapter makes of two inputs; vectors as lists, so that they compare."""
    given = {"base_url": url, **PATIENCE, **options}
    if name == "openai":
        return OpenAIEncoder(**given, model="m", dimension=4).encode_document(["one", "two"])
    if name == "tei":
        return TeiEncoder(**given, dimension=4).encode_document(["one", "two"])
    if name == "tei-sparse":
        return TeiSparseEncoder(**given).encode_document(["one", "two"])
    pairs = [("query", "one"), ("query", "two")]
    return (TeiReranker(**given) if name == "tei-reranker" else ApiReranker(**given, model="m")).predict(pairs)


def outcome(work: Callable[[], Any]) -> str:
    """`right`, `nan` for vectors that the host sets aside, or the text of the error."""
    try:
        found = work()
    except (RemoteError, ContractError) as error:
        text = str(error)
        return text if text.replace("\n", "").isprintable() and len(text) < 1500 else f"unfit to be shown: {text!r}"
    if isinstance(found, list):
        if not all(np.isfinite(vector.values).all() for vector in found):
            return "nan"
        assert [dict(zip(v.indices.tolist(), v.values.tolist(), strict=True)) for v in found] == [{3: 0.5}, {}]
    else:
        if not np.isfinite(found).all():
            return "nan"
        np.testing.assert_array_equal(found, np.array(VECTORS if found.ndim == 2 else SCORES, np.float32))
    return RIGHT


def within(seconds: float, work: Callable[[], Any]) -> Any:
    """What `work` returns, from a thread, so that a hang fails the test instead of holding it."""
    pool = concurrent.futures.ThreadPoolExecutor(1)
    try:
        return pool.submit(work).result(seconds)
    finally:
        pool.shutdown(wait=False)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def met(ask: Callable[[], str]) -> str:
    """What comes of it, once there is a connection, for which a busy machine may take more than its quarter second."""
    for _ in range(20):
        if "no connection in time" not in (found := str(within(DEADLINE + 60, ask))):
            break
    return found


def check(name: str, script: Script, expected: str) -> None:
    """An answer that never ends is given up after the short waits; any other fault is met however long it takes."""
    waits = WAITS if "no complete" in expected else LONG
    with faulty_server(script) as url:
        found = met(lambda: outcome(lambda: asked(name, url, **waits)))
    assert re.search(expected, found), found


@pytest.mark.parametrize("fault", WIRE)
def test_a_fault_on_the_wire_ends_in_time_in_a_right_answer_or_a_clear_error(fault: str) -> None:
    script, expected = WIRE[fault]
    check("openai", script, expected)


@pytest.mark.parametrize("fault", DENSE)
def test_a_wrong_dense_answer_is_a_clear_error_or_set_aside(fault: str) -> None:
    content, expected = DENSE[fault]
    check("openai", send(answer(content)), expected)


@pytest.mark.parametrize("fault", OTHERS)
def test_a_wrong_answer_of_another_kind_is_a_clear_error_or_set_aside(fault: str) -> None:
    name, content, expected = OTHERS[fault]
    check(name, send(answer(content)), expected)


def test_plain_text_where_tls_is_expected_is_a_clear_error() -> None:
    with faulty_server(send(b"HTTP/1.1 400 Bad Request\r\n\r\n"), reads=False) as url:
        found = within(120, lambda: outcome(lambda: asked("openai", url.replace("http:", "https:"), **LONG)))
    assert "does not answer" in found


def test_a_tls_handshake_that_never_ends_is_ended() -> None:
    with faulty_server(hang(), reads=False) as url:
        found = within(30, lambda: outcome(lambda: asked("openai", url.replace("http:", "https:"))))
    assert re.search("no connection in time|no complete answer", found)


def test_a_server_that_does_not_read_the_request_is_given_up() -> None:
    def sleep(connection: socket.socket) -> None:
        time.sleep(10)

    with faulty_server(sleep, reads=False) as url:
        encoder = OpenAIEncoder(base_url=url, **PATIENCE, model="m", dimension=4)
        found = met(lambda: outcome(lambda: encoder.encode_document(["x" * 30_000_000])))
    assert "no complete answer" in found


@pytest.mark.parametrize(
    "url", ["http://host.invalid", "http://127.0.0.1:1", "http://[::1]:1", "http://127.0.0.1:65535"]
)
def test_an_address_where_nobody_is_is_a_clear_error(url: str) -> None:
    found = within(60, lambda: outcome(lambda: asked("openai", url)))
    assert re.search("does not answer|no connection in time|no complete answer", found)


def test_a_larger_answer_is_read_where_it_is_allowed() -> None:
    padded = json.dumps(GOOD).encode() + b" " * 20_000_000
    with faulty_server(send(answer(padded))) as url:
        assert "too large" in outcome(lambda: asked("openai", url, timeout=30.0, deadline=60.0, batch_size=2))
        assert outcome(lambda: asked("openai", url, timeout=30.0, deadline=60.0, max_answer_size="30MB")) == RIGHT
        assert outcome(lambda: asked("openai", url, timeout=30.0, deadline=60.0, batch_size=200)) == RIGHT


def test_stuck_requests_of_one_caller_do_not_hold_another_beyond_its_deadline() -> None:
    with faulty_server(hang()) as url:
        encoder = OpenAIEncoder(base_url=url, **PATIENCE | {"timeout": 60.0}, model="m", dimension=4, max_concurrency=1)
        with concurrent.futures.ThreadPoolExecutor(3) as callers:
            asks = [callers.submit(outcome, lambda: encoder.encode_query(["one"])) for _ in range(3)]
            found = [ask.result(60) for ask in asks]
    assert all("no answer within its deadline of 1.5 s" in text for text in found)


def test_a_text_that_is_no_unicode_is_a_clear_error_before_anything_is_sent() -> None:
    encoder = OpenAIEncoder(base_url="http://127.0.0.1:1", **PATIENCE, model="m", dimension=4)
    with pytest.raises(RemoteError, match="cannot be sent as JSON"):
        encoder.encode_document(["fine", "\ud800"])
