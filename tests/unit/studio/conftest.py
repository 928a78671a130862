"""Studio over a collection of four animals, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych.service.application import application
from diptych.service.served import Served
from diptych.studio.routes import studio
from serving import animals


@pytest.fixture(scope="session")
def collection(fakes: Registry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    with animals(tmp_path_factory.mktemp("studio"), fakes) as made:
        yield made


@pytest.fixture(scope="session")
def client(collection: Collection, fakes: Registry) -> TestClient:
    """Without the application's start and end, which would warm and close the collection."""
    return TestClient(application(Served([collection], registry=fakes), extension=studio()))


@pytest.fixture
def asked(client: TestClient) -> Callable[..., Any]:
    def ask(route: str = "search", **body: object) -> Any:
        answer = client.post(f"/studio/api/{route}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    return ask
