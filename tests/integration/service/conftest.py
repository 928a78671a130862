"""The service over a collection of four animals, on a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from diptych import Collection, Registry
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from named_server import emptied
from serving import animals, served, until


@pytest.fixture(scope="module", params=["edge", "server"])
def collection(
    request: pytest.FixtureRequest, fakes: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Collection]:
    """Closed by the service that it is served by."""
    folder = tmp_path_factory.mktemp("served")
    if request.param == "edge":
        yield animals(folder, fakes)
    else:
        with emptied("animals") as settings:
            yield animals(folder, fakes, **settings)


@pytest.fixture(scope="module")
def url(collection: Collection, fakes: Registry) -> Iterator[str]:
    with served(application(Served([collection], adapters=["fake-dense"], registry=fakes))) as found:
        until(lambda: httpx.get(f"{found}/readyz").status_code == 200)
        yield found


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as made:
        yield made
