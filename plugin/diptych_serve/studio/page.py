"""Serves the built page, and keeps browsers from running anything else beside it."""

from __future__ import annotations

from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
