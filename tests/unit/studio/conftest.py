"""Studio over small collections, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from diptych_serve.studio.routes import studio
from serving import animals


@pytest.fixture(scope="session")
def collection(fakes: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with animals(tmp_path_factory.mktemp("studio"), fakes) as made:
        yield made


@pytest.fixture(scope="session")
def studio_over(fakes: Registry) -> Callable[..., TestClient]:
    """A client of Studio over open collections, without the start and end that would warm and close them."""

    def over(*collections: Collection, **options: Any) -> TestClient:
        return TestClient(application(Served(collections, registry=fakes), extension=studio(**options)))

    return over


@pytest.fixture(scope="session")
def client(collection: Collection, studio_over: Callable[..., TestClient]) -> TestClient:
    return studio_over(collection)


@pytest.fixture
def asked(client: TestClient) -> Callable[..., Any]:
    return lambda route="search", **body: answer(client, route, **body)


def answer(client: TestClient, route: str = "search", **body: object) -> Any:
    found = client.post(f"/studio/api/{route}", json=body)
    assert found.status_code == 200, found.text
    return found.json()


@pytest.fixture
def filled(tmp_path: Path, fakes: Registry) -> Iterator[Callable[..., Collection]]:
    """A collection in memory of its own, filled with these documents; other keys change its config."""
    made: list[Collection] = []

    def fill(documents: list[dict[str, Any]], **changes: Any) -> Collection:
        from diptych.config import parse_config

        slots = {"dense": {"adapter": "fake-dense", "dimension": 8}, "lexical": {"adapter": "fake-sparse"}}
        config = {"store": "memory:", "collection": "own", "slots": slots, "cache": {"enabled": False}, **changes}
        made.append(Collection.open(parse_config(config), registry=fakes))
        made[-1].populate(documents)
        return made[-1]

    yield fill
    for collection in made:
        collection.close()
