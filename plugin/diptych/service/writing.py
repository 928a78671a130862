"""`PUT /documents` and `POST /populate`: populate over HTTP, if the service allows writes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from diptych.collection import Collection
from diptych.errors import PopulateError
from diptych.populate import open_source
from diptych.service.answers import PopulateAnswer
from diptych.service.inputs import accepted, require_words
from diptych.service.refusals import Refused
from diptych.service.requests import DocumentsRequest, PopulateOptions, read, read_query, require_kind
from diptych.service.serving import Serving, json_of

LINES = ("application/x-ndjson", "application/jsonl")


async def put_documents(request: Request) -> Response:
    """`PUT /documents`: write some documents; one with a known id replaces the document of that id."""
    serving = Serving.of(request)
    asked = await read(request, DocumentsRequest, serving.limits)
    collection = serving.served.collection(asked.collection)
    options = {"dry_run": asked.dry_run, "tenant": asked.tenant}
    return await _answer(serving, lambda: populated(collection, asked.documents, options))


async def populate(request: Request) -> Response:
    """`POST /populate`: write any number of documents from JSON lines; `sync` deletes all others."""
    serving = Serving.of(request)
    require_kind(request, LINES)
    asked = read_query(request, PopulateOptions)
    collection = serving.served.collection(asked.collection)
    options = asked.model_dump(include={"sync", "dry_run", "tenant"}) | {"max_deleted": 1.0 if asked.yes else None}
    with tempfile.TemporaryDirectory(prefix="diptych-populate-") as folder:
        path = Path(folder) / "request.jsonl"
        with path.open("wb") as file:
            await _receive(request, file, serving)
        try:
            return await _answer(serving, lambda: populated(collection, open_source(path), options))
        except PopulateError as error:
            if error.where.startswith(path.name):  # what was sent is at fault
                raise Refused(400, str(error), code="populate_error") from error
            raise


def populated(collection: Collection, rows: Iterable[Any], options: Mapping[str, Any]) -> PopulateAnswer:
    """Populate and return the answer. It names the documents set aside; the server writes no file about them.

    Raises:
        DiptychError: see `Collection.populate`; SearchError for a text that an encoder would open as a file.
    """
    with tempfile.TemporaryDirectory(prefix="diptych-populate-") as folder:
        report_path = Path(folder) / "set-aside.jsonl"
        return PopulateAnswer.of(collection.populate(_of_words(collection, rows), report_path=report_path, **options))


async def _answer(serving: Serving, work: Callable[[], PopulateAnswer]) -> Response:
    assert serving.writes is not None, "the routes are there only where writes are allowed"
    return json_of((await serving.writes.run(work)).model_dump())


def _of_words(collection: Collection, rows: Iterable[Any]) -> Iterator[Any]:
    """The rows, checked so that no encoder opens a file or an address for them."""
    kinds = accepted(collection)
    for row in rows:
        if isinstance(row, Mapping):
            texts = [value for value in (row.get("title"), row.get("text")) if isinstance(value, str)]
            require_words([*texts, " ".join(texts)], kinds, where=f"collection {collection.name!r}")
        yield row


async def _receive(request: Request, file: IO[bytes], serving: Serving) -> None:
    """Write the body to a file, piece by piece.

    Raises:
        Refused: it is larger than `Limits.upload`, or nothing comes for `Limits.body_seconds`.
    """
    size, most, seconds = 0, serving.limits.upload, serving.limits.body_seconds
    stream = request.stream().__aiter__()
    while True:
        try:
            async with asyncio.timeout(seconds):
                piece = await anext(stream, None)
        except TimeoutError:
            raise Refused(408, f"nothing came for {seconds:g} s", code="timeout") from None
        except ClientDisconnect:
            raise Refused(400, "the client went away", code="disconnected") from None
        if piece is None:
            return
        size += len(piece)
        if size > most:
            message = f"the documents are too large\n  expected: at most {most} bytes\n  do: send several requests"
            raise Refused(413, message, code="request_too_large", headers={"Connection": "close"})
        await asyncio.to_thread(file.write, piece)
