"""Studio in headless Chromium: the page and its server over real and over hostile collections."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import portalocker
import pytest
from playwright.sync_api import Browser, expect

from browsing import Visit, browsing
from diptych import Collection
from diptych.config import parse_config
from diptych.populate import open_source
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from serving import served
from shared_vectors import shared


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Until the end of the file: Playwright keeps a loop running, which other tests may not find."""
    expect.set_options(timeout=30_000)  # other tests use the cores too
    with browsing() as started:
        yield started


@pytest.fixture(scope="session")
def packages_store(debian: Path, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """A store with debian-mini by MiniLM and BM25, filled once for all workers of a run. It is copied, never opened."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if pytestconfig.getoption("--workers") else base
    filled = base / "packages"
    with portalocker.Lock(base / "packages.lock", timeout=500):
        if not filled.exists():
            with shared(), opened(base / "packages-new") as collection:
                collection.populate(open_source(debian / "corpus.jsonl.gz"))
            (base / "packages-new").rename(filled)
    return filled


def opened(folder: Path) -> Collection:
    config = {
        "store": f"edge:{folder}",
        "collection": "debian",
        "slots": {
            "dense": {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2"},
            "lexical": {"adapter": "bm25", "language": "english"},
        },
        "search": {"retrieve": {"dense": 100, "lexical": 100}, "limit": 10},
    }
    return Collection.open(parse_config(config))


@pytest.fixture(scope="module")
def packages(packages_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    """debian-mini, for the tests of a file to change as they like."""
    folder = tmp_path_factory.mktemp("studio") / "qdrant"
    shutil.copytree(packages_store, folder)
    with opened(folder) as collection:
        collection.search("warm")  # loads the encoders
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
    context.set_default_timeout(60_000)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    found = Visit(context.new_page(), packages_url)
    yield found
    context.close()
    assert found.other_hosts() == []
    assert found.faults == []


@pytest.fixture(scope="session")
def few_queries(debian: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 judged queries of debian-mini."""
    folder = tmp_path_factory.mktemp("few") / "few"
    (folder / "qrels").mkdir(parents=True)
    with gzip.open(debian / "queries.jsonl.gz", "rt") as lines:
        queries = [line for line, _ in zip(lines, range(60), strict=False)]
    (folder / "queries.jsonl").write_text("".join(queries))
    known = {json.loads(line)["_id"] for line in queries}
    header, *rows = (debian / "qrels" / "test.tsv").read_text().splitlines()
    kept = [row for row in rows if row.partition("\t")[0] in known]
    (folder / "qrels" / "test.tsv").write_text("\n".join([header, *kept]) + "\n")
    return folder
