"""What a request may say of itself, whatever server hands it on."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from pydantic import BaseModel, field_validator
from starlette.requests import Request

from diptych_serve.service.access import Limits
from diptych_serve.service.admission import Refused
from diptych_serve.service.requests import SearchRequest, read


class Noted(BaseModel):
    """A request that notes in which thread it is validated."""

    text: str

    @field_validator("text")
    @classmethod
    def _note(cls, text: str) -> str:
        threads.append(threading.get_ident())
        return text


threads: list[int] = []


def sent(body: bytes, *headers: tuple[bytes, bytes]) -> Request:
    """A request as a server hands it on."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    scope = {"type": "http", "method": "POST", "path": "/search"}
    return Request({**scope, "headers": [(b"content-type", b"application/json"), *headers]}, receive)


@pytest.mark.parametrize("length", ["\u00b2", "9" * 5_000, "-1", "1e3", ""])
def test_a_content_length_that_is_no_number_is_refused(length: str) -> None:
    request = sent(b'{"query": "cat"}', (b"content-length", length.encode("latin-1")))
    with pytest.raises(Refused, match="Content-Length is not a number of bytes") as refused:
        asyncio.run(read(request, SearchRequest, Limits()))
    assert refused.value.status == 400


def test_a_large_body_is_validated_outside_of_the_event_loop() -> None:
    threads.clear()
    for size in (10, 1_000_000):
        asyncio.run(read(sent(b'{"text": "' + b"x" * size + b'"}'), Noted, Limits()))
    small, large = threads
    assert (small == threading.get_ident(), large == threading.get_ident()) == (True, False)
