"""`PUT /documents` and `POST /populate`: write documents, if allowed, as `Collection.populate` does."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from diptych.collection.collection import Collection
from diptych.errors import PopulateError
from diptych.populate import open_source
from diptych.populate.sources.readers import Row
from diptych_serve.service.allowed_inputs import accepted, reads_media, require_inline, require_words
from diptych_serve.service.bodies import DocumentsRequest, PopulateOptions
from diptych_serve.service.error_answers import Refused
from diptych_serve.service.limits import Limits
from diptych_serve.service.requests import read, read_query, require_kind
from diptych_serve.service.route_context import Serving, json_of
from diptych_serve.service.search_answers import PopulateAnswer, populated
from diptych_serve.service.write_queue import Writes

LINES = ("application/x-ndjson", "application/jsonl")
_LOOK = 8 << 20  # bytes after which free space is looked at again
_CLOSE = {"Connection": "close"}


async def put_documents(request: Request) -> Response:
    """`PUT /documents`: write some documents; one with a known id replaces that document."""
    serving, writes = _writable(request)
    with writes.room():
        body = await read(request, DocumentsRequest, serving.limits)
        collection = serving.served.collection(body.collection)
        options = {"dry_run": body.dry_run, "tenant": body.tenant, "drop_media": True}
        rows = _of_words(collection, writes.until_stopped(body.documents))
        return await _answer(writes, lambda: populated(collection, rows, options))


async def populate(request: Request) -> Response:
    """`POST /populate`: write documents from JSON lines, any number; `sync` deletes those that are missing."""
    serving, writes = _writable(request)
    require_kind(request, LINES)
    params = read_query(request, PopulateOptions)
    collection = serving.served.collection(params.collection)
    options = params.model_dump(include={"sync", "dry_run", "tenant"}) | {"max_deleted": 1.0 if params.yes else None}
    options["drop_media"] = params.yes
    with writes.room(), tempfile.TemporaryDirectory(prefix="diptych-populate-") as folder:
        path = Path(folder) / "request.jsonl"
        with path.open("wb") as file:
            await receive(request, file, serving.limits)
        try:
            rows = _of_words(collection, writes.until_stopped(open_source(path)))
            return await _answer(writes, lambda: populated(collection, rows, options))
        except PopulateError as error:
            if "lost" in error.context:  # documents would lose their media
                raise Refused(409, str(error), code="populate_error") from error
            if error.where.startswith(path.name):  # what was sent is at fault
                raise Refused(400, str(error), code="populate_error") from error
            raise


def _writable(request: Request) -> tuple[Serving, Writes]:
    serving = Serving.of(request)
    assert serving.writes is not None, "the routes are there only where writes are allowed"
    return serving, serving.writes


async def _answer(writes: Writes, work: Callable[[], PopulateAnswer]) -> Response:
    return json_of((await writes.run(work)).model_dump())


def _of_words(collection: Collection, rows: Iterable[Any]) -> Iterator[Any]:
    """The rows, after checking that nothing in them would be opened as a file or address."""
    kinds, has_media, where = (
        accepted(collection, documents=True),
        reads_media(collection),
        f"collection {collection.name!r}",
    )
    for row in rows:
        if isinstance(row, Mapping):
            marked = isinstance(row, Row) and row.has_media  # by the header of an exported file
            if (has_media or marked) and isinstance(row.get("media"), Mapping):
                require_inline(row["media"], where=where)
            title, text = (value if isinstance(value, str) else "" for value in (row.get("title"), row.get("text")))
            read_by_encoders = collection.handle.view.reading.of(title, text)
            require_words([title, text, read_by_encoders], kinds, where=where)
        yield row


# `receive`: the documents of a populate, on their way to a file.


async def receive(request: Request, file: IO[bytes], limits: Limits) -> None:
    """Write the body to a file, piece by piece.

    Raises:
        Refused: it is larger than `Limits.upload`, nothing comes for `Limits.body_seconds`, it comes more slowly than
            `Limits.upload_rate`, or the disk has too little space.
    """
    size, checked, start = 0, -_LOOK, time.monotonic()
    stream = request.stream().__aiter__()
    while True:
        remaining = start + limits.body_seconds + size / limits.upload_rate - time.monotonic()
        try:
            async with asyncio.timeout(min(remaining, limits.body_seconds)):
                piece = await anext(stream, None)
        except TimeoutError:
            raise _slow(limits) from None
        except ClientDisconnect:
            raise Refused(400, "the client went away", code="disconnected") from None
        if piece is None:
            return
        size += len(piece)
        if size > limits.upload:
            expected = f"at most {limits.upload} bytes"
            message = f"the documents are too large\n  expected: {expected}\n  do: send several requests"
            raise Refused(413, message, code="request_too_large", headers=_CLOSE)
        if size - checked >= _LOOK:
            _require_space(file, len(piece) + limits.spare)
            checked = size
        await asyncio.to_thread(file.write, piece)


def _slow(limits: Limits) -> Refused:
    expected = f"a byte every {limits.body_seconds:g} s, and then {limits.upload_rate} bytes per second"
    return Refused(408, f"the documents come too slowly\n  expected: {expected}", code="timeout", headers=_CLOSE)


def _require_space(file: IO[bytes], needed: int) -> None:
    if shutil.disk_usage(Path(file.name).parent).free < needed:
        message = "the server has too little disk space to receive documents\n  do: make room where its TMPDIR is"
        raise Refused(507, message, code="store_full", headers=_CLOSE)
