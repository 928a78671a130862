"""What a request may say of itself, whatever server hands it on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from diptych.service.error_answers import Refused
from diptych.service.limits import Limits
from diptych.service.requests import SearchRequest, read


@pytest.mark.parametrize("length", ["\u00b2", "9" * 5_000, "-1", "1e3", ""])
def test_a_content_length_that_is_no_number_is_refused(length: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", length.encode("latin-1"))]

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b'{"query": "cat"}', "more_body": False}

    request = Request({"type": "http", "method": "POST", "path": "/search", "headers": headers}, receive)
    with pytest.raises(Refused, match="Content-Length is not a number of bytes") as refused:
        asyncio.run(read(request, SearchRequest, Limits()))
    assert refused.value.status == 400
