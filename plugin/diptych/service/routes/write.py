"""`PUT /documents` and `POST /populate`: documents in, where the service allows it, as `Collection.populate` does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from diptych.collection.collection import Collection
from diptych.errors import PopulateError
from diptych.populate import open_source
from diptych.service.allowed_inputs import accepted, require_words
from diptych.service.answers import PopulateAnswer
from diptych.service.error_answers import Refused
from diptych.service.requests import DocumentsRequest, PopulateOptions, read, read_query, require_kind
from diptych.service.route_context import Serving, json_of
from diptych.service.routes.upload import receive
from diptych.service.write_queue import Writes

LINES = ("application/x-ndjson", "application/jsonl")


async def put_documents(request: Request) -> Response:
    """`PUT /documents`: bring some documents in; one with a known id replaces the document of that id."""
    serving, writes = _writable(request)
    with writes.room():
        asked = await read(request, DocumentsRequest, serving.limits)
        collection = serving.served.collection(asked.collection)
        options = {"dry_run": asked.dry_run, "tenant": asked.tenant}
        return await _answer(writes, lambda: populated(collection, writes.until_stopped(asked.documents), options))


async def populate(request: Request) -> Response:
    """`POST /populate`: bring in the documents of JSON lines, however many; `sync` deletes those that are not there."""
    serving, writes = _writable(request)
    require_kind(request, LINES)
    asked = read_query(request, PopulateOptions)
    collection = serving.served.collection(asked.collection)
    options = asked.model_dump(include={"sync", "dry_run", "tenant"}) | {"max_deleted": 1.0 if asked.yes else None}
    with writes.room(), tempfile.TemporaryDirectory(prefix="diptych-populate-") as folder:
        path = Path(folder) / "request.jsonl"
        with path.open("wb") as file:
            await receive(request, file, serving.limits)
        try:
            rows = writes.until_stopped(open_source(path))
            return await _answer(writes, lambda: populated(collection, rows, options))
        except PopulateError as error:
            if error.where.startswith(path.name):  # what was sent is at fault
                raise Refused(400, str(error), code="populate_error") from error
            raise


def populated(collection: Collection, rows: Iterable[Any], options: Mapping[str, Any]) -> PopulateAnswer:
    """Populate, and what to answer; what is set aside is in the answer, and in no file of the server.

    Raises:
        DiptychError: see `Collection.populate`; SearchError for a text that an encoder would open as a file.
    """
    with tempfile.TemporaryDirectory(prefix="diptych-populate-") as folder:
        report_path = Path(folder) / "set-aside.jsonl"
        return PopulateAnswer.of(collection.populate(_of_words(collection, rows), report_path=report_path, **options))


def _writable(request: Request) -> tuple[Serving, Writes]:
    serving = Serving.of(request)
    assert serving.writes is not None, "the routes are there only where writes are allowed"
    return serving, serving.writes


async def _answer(writes: Writes, work: Callable[[], PopulateAnswer]) -> Response:
    return json_of((await writes.run(work)).model_dump())


def _of_words(collection: Collection, rows: Iterable[Any]) -> Iterator[Any]:
    """The rows, to none of which an encoder would open a file or an address."""
    kinds = accepted(collection)
    for row in rows:
        if isinstance(row, Mapping):
            title, text = (value if isinstance(value, str) else "" for value in (row.get("title"), row.get("text")))
            read_by_encoders = collection.handle.document_input(title, text)
            require_words([title, text, read_by_encoders], kinds, where=f"collection {collection.name!r}")
        yield row
