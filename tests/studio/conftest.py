"""Studio in headless Chromium: the page and its server over real and over hostile collections."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from playwright.sync_api import Browser

from browsing import Visit, browsing
from diptych import Collection
from diptych.config import parse_config
from diptych.service.application import application
from diptych.service.served import Served
from diptych.studio.routes import studio
from serving import served


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Until the end of the file: Playwright keeps a loop running, which other tests may not find."""
    with browsing() as started:
        yield started


@pytest.fixture(scope="module")
def packages(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """debian-mini by MiniLM and BM25."""
    config = {
        "store": f"edge:{tmp_path_factory.mktemp('packages') / 'qdrant'}",
        "collection": "debian",
        "slots": {
            "dense": {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2"},
            "lexical": {"adapter": "bm25", "language": "english"},
        },
        "search": {"retrieve": {"dense": 100, "lexical": 100}, "limit": 10},
    }
    with Collection.open(parse_config(config)) as collection:
        collection.populate(debian / "corpus.jsonl.gz")
        yield collection


@pytest.fixture(scope="module")
def packages_url(packages: Collection) -> Iterator[str]:
    """Studio over debian-mini."""
    with served(application(Served([packages]), extension=studio())) as url:
        yield f"{url}/studio/"


@pytest.fixture
def visit(browser: Browser, packages_url: str) -> Iterator[Visit]:
    """A page on debian-mini; afterwards it has asked no other host and raised no error."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    found = Visit(context.new_page(), packages_url)
    yield found
    context.close()
    assert found.other_hosts() == []
    assert found.faults == []
