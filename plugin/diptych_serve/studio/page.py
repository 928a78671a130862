"""Serves the built page, keeps browsers from running anything else beside it, and exports views as HTML files."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import html
import json
import mimetypes
import re
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Annotated, Any

from pydantic import Field
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diptych_serve.service.admission import Refused
from diptych_serve.service.context import Serving
from diptych_serve.service.requests import Body, read
from diptych_serve.studio.display import isolated

LARGEST = 32 * 1024 * 1024  # bytes of a view with its answers
SCRIPT, STYLE = "studio.js", "studio.css"
_CLOSING = re.compile(r"<(?=/script|!--)", re.IGNORECASE)
_NAME = re.compile(r"[^A-Za-z0-9-]+")
PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<div id="studio"></div>
<noscript>This view of diptych Studio needs JavaScript.</noscript>
<script type="application/json" id="studio-export">{data}</script>
<script type="module">{script}</script>
</body>
</html>
"""

BASE, API, DOCS = "/studio", "/studio/api", "/docs"
GUIDE = "guide.html"  # docs/studio.md, by docs/guide.py
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
DATA_CSP = "default-src 'none'; frame-ancestors 'none'; sandbox"  # of answers that are no page
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_KINDS = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".woff2": "font/woff2"}


@dataclass(frozen=True, slots=True)
class Asset:
    """A file of the page, as it is and compressed."""

    kind: str
    content: bytes
    compressed: bytes
    tag: str


@cache
def assets() -> dict[str, Asset]:
    """The files of the built page by their path below `/studio/`. They are read once, so no request opens a file."""
    package = files("diptych_serve.studio")
    guide = _asset(GUIDE, (package / GUIDE).read_bytes())
    return {**dict(_read(package / "page", "")), GUIDE: guide}


async def page(request: Request) -> Response:
    """`GET /studio/` and the files below it: the page, which needs no key."""
    name = request.path_params.get("file") or "index.html"
    asset = assets().get(name)
    if asset is None:
        raise Refused(404, f"the page has no file {name[:80]!r}\n  do: open {BASE}/", code="no_such_file")
    headers = {
        "ETag": asset.tag,
        "Vary": "Accept-Encoding",
        "Content-Security-Policy": CSP,
        "Cache-Control": "no-cache",
    }
    if request.headers.get("if-none-match") == asset.tag:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.compressed, headers={**headers, "Content-Encoding": "gzip"}, media_type=asset.kind)
    return Response(asset.content, headers=headers, media_type=asset.kind)


async def to_page(request: Request) -> Response:
    """`GET /studio`: to the page, whose files are named relative to its folder."""
    return RedirectResponse(f"{BASE}/")


async def to_docs(request: Request) -> Response:
    """`GET /docs`: to the page's view of `/openapi.json`."""
    return RedirectResponse(f"{BASE}/#/docs")


class Headers:
    """Adds the headers that keep a browser in bounds to every answer of Studio, errors included.

    Args:
        app: what answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or not is_studio(scope["path"]):
            return await self._app(scope, receive, send)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Content-Security-Policy", DATA_CSP)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        return await self._app(scope, receive, guarded)


def is_studio(path: str) -> bool:
    """Whether the path is one of Studio's."""
    return path in (BASE, DOCS) or path.startswith(f"{BASE}/")


def is_public(path: str) -> bool:
    """Whether the path is answered without a key: the page, which holds no data."""
    return is_studio(path) and path != API and not path.startswith(f"{API}/")


def _read(folder: Traversable, above: str) -> list[tuple[str, Asset]]:
    found: list[tuple[str, Asset]] = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        name = f"{above}{file.name}"
        if file.is_dir():
            found += _read(file, f"{name}/")
        elif file.name != "sources.sha256":
            found.append((name, _asset(name, file.read_bytes())))
    return found


def _asset(name: str, content: bytes) -> Asset:
    suffix = f".{name.rpartition('.')[2]}"
    kind = _KINDS.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    tag = hashlib.sha256(content).hexdigest()[:32]
    return Asset(kind, content, gzip.compress(content, mtime=0), f'"{tag}"')


class Exported(Body):
    """`POST /studio/api/export`: a view, its state, and the answers that it shows."""

    view: Annotated[str, Field(max_length=100)]
    state: Any = None
    data: dict[str, Any]


async def export(request: Request) -> Response:
    """`POST /studio/api/export`."""
    serving = Serving.of(request)
    body = await read(request, Exported, replace(serving.limits, body=max(LARGEST, serving.limits.body)))
    content = await asyncio.to_thread(exported, body)
    name = _NAME.sub("-", body.view).strip("-") or "view"
    headers = {"Content-Disposition": f'attachment; filename="diptych-{name}.html"'}
    return Response(content, media_type="text/html", headers=headers)


def exported(body: Exported) -> bytes:
    """The file. It runs the page's own script and nothing else, and may load nothing.

    Raises:
        Refused: the page was not built.
    """
    files = assets()
    if SCRIPT not in files or STYLE not in files:
        raise Refused(501, "the page is not built\n  do: make studio-page", code="no_page")
    script = _CLOSING.sub(r"\\x3c", files[SCRIPT].content.decode())
    style = files[STYLE].content.decode().replace("</", "<\\/")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data: blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
    # Within a script element only `<` could end it; JSON may say it as an escape.
    data = json.dumps(body.data, ensure_ascii=False).replace("<", "\\u003c")
    title = f"diptych Studio: {html.escape(isolated(body.view))}"
    return PAGE.format(policy=policy, title=title, style=style, data=data, script=script).encode("utf-8", "replace")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
