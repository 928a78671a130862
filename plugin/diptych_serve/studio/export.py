"""`POST /studio/api/export`: a view as one HTML file that works without a server, or any network."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import re
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from diptych_serve.service.bodies import Body
from diptych_serve.service.error_answers import Refused
from diptych_serve.service.requests import read
from diptych_serve.service.route_context import Serving
from diptych_serve.studio.display import isolated
from diptych_serve.studio.page import assets

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
