"""Serves the built page, keeps browsers from running anything else beside it, and exports views as HTML files."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from diptych_serve.service.admission import Refused
from diptych_serve.service.context import Serving
from diptych_serve.service.requests import Body, read
from diptych_serve.studio.display import one_direction

LARGEST = 32 * 1024 * 1024  # bytes of a view with its answers
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

BASE, API = "/studio", "/studio/api"
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


async def guide(request: Request) -> Response:
    """`GET /studio/guide.html`: what the page can do."""
    return FileResponse(FOLDER / "guide.html")


FOLDER = Path(__file__).parent
PAGES = (
    Route("/docs", RedirectResponse(f"{BASE}/#/docs"), methods=["GET"]),  # the page's view of /openapi.json
    Route(BASE, RedirectResponse(f"{BASE}/"), methods=["GET"]),  # the page's files are named relative to its folder
    Route(f"{BASE}/guide.html", guide),  # of docs/studio.md, by docs/guide.py
    Mount(BASE, GZipMiddleware(StaticFiles(directory=FOLDER / "page", html=True))),
)


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
                is_page = is_public(scope["path"])
                headers.setdefault("Content-Security-Policy", CSP if is_page else DATA_CSP)
                headers.setdefault("Cache-Control", "no-cache" if is_page else "no-store")
            await send(message)

        return await self._app(scope, receive, guarded)


def is_studio(path: str) -> bool:
    """Whether the path is one of Studio's."""
    return path in (BASE, "/docs") or path.startswith(f"{BASE}/")


def is_public(path: str) -> bool:
    """Whether the path is answered without a key: the page, which holds no data."""
    return is_studio(path) and path != API and not path.startswith(f"{API}/")


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
    try:
        script, style = ((FOLDER / "page" / name).read_text("utf-8") for name in ("studio.js", "studio.css"))
    except FileNotFoundError:
        raise Refused(501, "the page is not built\n  do: make studio-page", code="no_page") from None
    script, style = _CLOSING.sub(r"\\x3c", script), style.replace("</", "<\\/")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data: blob:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )
    # Within a script element only `<` could end it; JSON may say it as an escape.
    data = json.dumps(body.data, ensure_ascii=False).replace("<", "\\u003c")
    title = f"diptych Studio: {html.escape(one_direction(body.view))}"
    return PAGE.format(policy=policy, title=title, style=style, data=data, script=script).encode("utf-8", "replace")


def _hash(text: str) -> str:
    """As a Content-Security-Policy names an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
