"""An exported view is one file that runs the page's own script and loads nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from starlette.testclient import TestClient

HOSTILE = ["</script><script>alert(1)</script>", "<!--<script>", "\u2028", "<img src=x onerror=alert(1)>", "{0} %s"]


class Elements(HTMLParser):
    """The elements of a page as a browser sees them: their attributes, and the text of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], str]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs), ""))
        self._inside = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            tag, attributes, text = self.found[-1]
            self.found[-1] = (tag, attributes, text + data)


def exported(client: TestClient, **body: Any) -> tuple[Elements, Any]:
    answer = client.post("/studio/api/export", json=body)
    assert answer.status_code == 200, answer.text
    parser = Elements()
    parser.feed(answer.text)
    return parser, answer


def test_the_file_holds_the_data_and_runs_only_the_pages_script(client: TestClient) -> None:
    data = {"hash": "#/compare?q=cat", "answers": {text: [text] for text in HOSTILE}}
    page, answer = exported(client, view="compare", state="#/compare", data=data)
    scripts = [(attributes, text) for tag, attributes, text in page.found if tag == "script"]
    assert [attributes.get("type") for attributes, _ in scripts] == ["application/json", "module"]
    assert json.loads(scripts[0][1]) == data
    policy = next(
        a["content"] or "" for tag, a, _ in page.found if tag == "meta" and "content" in a and a.get("http-equiv")
    )
    styles = [text for tag, _, text in page.found if tag == "style"]
    for kind, text in (("script-src", scripts[1][1]), ("style-src", styles[0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert not [
        a for _, a, _ in page.found if {"src", "href", "style"} & a.keys() or any(k.startswith("on") for k in a)
    ]
    assert answer.headers["content-disposition"] == 'attachment; filename="diptych-compare.html"'


def test_the_script_does_what_it_does_in_the_page(client: TestClient) -> None:
    page, _ = exported(client, view="compare", data={})
    script = [text for tag, _, text in page.found if tag == "script"][-1]
    own = client.get("/studio/studio.js").text
    assert re.sub(r"\\x3c(?=/script|!--)", "<", script, flags=re.IGNORECASE) == own


@pytest.mark.parametrize("view", ["../../etc/passwd", 'x"; y', "\r\nSet-Cookie: a", "</title><script>", "ü"])
def test_a_hostile_name_is_only_a_name(client: TestClient, view: str) -> None:
    page, answer = exported(client, view=view, data={})
    name = answer.headers["content-disposition"]
    assert re.fullmatch(r'attachment; filename="diptych-[A-Za-z0-9-]+\.html"', name)
    assert sum(tag == "script" for tag, _, _ in page.found) == 2


def test_a_view_may_be_larger_than_a_question(client: TestClient) -> None:
    exported(client, view="a", data={"text": "x" * 3_000_000})
    too_large = client.post("/studio/api/export", json={"view": "a", "data": {"text": "x" * 34_000_000}})
    assert too_large.status_code == 413
