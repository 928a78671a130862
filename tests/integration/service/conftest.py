"""The service over a collection of four animals, on a real socket."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from diptych import Collection, Registry
from diptych.service.application import application
from diptych.service.served import Served
from serving import animals, served, until


@pytest.fixture(scope="module")
def collection(fakes: Registry, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Closed by the service that it is served by."""
    return animals(tmp_path_factory.mktemp("served"), fakes)


@pytest.fixture(scope="module")
def url(collection: Collection, fakes: Registry) -> Iterator[str]:
    with served(application(Served([collection], adapters=["fake-dense"], registry=fakes))) as found:
        until(lambda: httpx.get(f"{found}/readyz").status_code == 200)
        yield found


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=60) as made:
        yield made
