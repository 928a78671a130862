"""`receive`: the documents of a populate, on their way to a file."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import IO

from starlette.requests import ClientDisconnect, Request

from diptych.service.error_answers import Refused
from diptych.service.limits import Limits

_LOOK = 8 << 20  # bytes after which free space is looked at again
_CLOSE = {"Connection": "close"}


async def receive(request: Request, file: IO[bytes], limits: Limits) -> None:
    """Write the body to a file, piece by piece.

    Raises:
        Refused: it is larger than `Limits.upload`, nothing comes for `Limits.body_seconds`, it comes more slowly than
            `Limits.upload_rate`, or the disk has too little space.
    """
    size, looked, begun = 0, -_LOOK, time.monotonic()
    stream = request.stream().__aiter__()
    while True:
        left = begun + limits.body_seconds + size / limits.upload_rate - time.monotonic()
        try:
            async with asyncio.timeout(min(left, limits.body_seconds)):
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
        if size - looked >= _LOOK:
            _require_space(file, len(piece) + limits.spare)
            looked = size
        await asyncio.to_thread(file.write, piece)


def _slow(limits: Limits) -> Refused:
    expected = f"a byte every {limits.body_seconds:g} s, and then {limits.upload_rate} bytes a second"
    return Refused(408, f"the documents come too slowly\n  expected: {expected}", code="timeout", headers=_CLOSE)


def _require_space(file: IO[bytes], needed: int) -> None:
    if shutil.disk_usage(Path(file.name).parent).free < needed:
        message = "the server has too little disk space to receive documents\n  do: make room where its TMPDIR is"
        raise Refused(507, message, code="store_full", headers=_CLOSE)
