"""An encoder that takes paths and addresses of images gets none from a client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from diptych import AdapterSpec, Registry, hookimpl
from diptych.testing import fakes_plugin
from diptych_serve.service.application import application
from diptych_serve.service.served import Served
from serving import animals, served


class Pictures:
    """An adapter that says that it opens images."""

    @staticmethod
    @hookimpl
    def diptych_register_adapters() -> list[AdapterSpec]:
        factory = "diptych.testing.fakes:FakeDenseEncoder"
        accepts = ("text", "image")
        return [AdapterSpec(name="pictures", kind="dense", factory=factory, summary="for tests", accepts=accepts)]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    registry = Registry(fakes_plugin, Pictures, installed=False)
    slots = {"seen": {"adapter": "pictures"}, "read": {"adapter": "fake-dense"}}
    collection = animals(tmp_path_factory.mktemp("pictures"), registry, slots=slots, search={})
    with served(application(Served([collection], registry=registry))) as url, httpx.Client(base_url=url) as made:
        yield made


@pytest.mark.parametrize(
    "text",
    ["/etc/hostname", "~/.ssh/id_rsa", "http://169.254.169.254/", "FILE:///etc/passwd", "data:image/png;base64,", "."],
)
def test_paths_and_addresses_are_refused(client: httpx.Client, text: str) -> None:
    for path, body in (("/v1/embeddings", {"model": "seen", "input": ["cat", text]}), ("/search", {"query": text})):
        answer = client.post(path, json=body)
        assert answer.status_code == 400
        assert "does not open files or addresses" in answer.json()["error"]["message"]


def test_words_are_answered_and_encoders_of_text_take_anything(client: httpx.Client) -> None:
    assert client.post("/v1/embeddings", json={"model": "seen", "input": "a cat / a dog"}).status_code == 200
    assert client.post("/search", json={"query": "what is data: or http?"}).status_code == 200
    assert client.post("/v1/embeddings", json={"model": "read", "input": "/etc/hostname"}).status_code == 200


def test_what_names_a_file_only_as_encoders_read_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    registry = Registry(fakes_plugin, Pictures, installed=False)
    made = animals(tmp_path, registry, slots={"seen": {"adapter": "pictures"}}, search={})
    row = {"id": "ape", "title": "an ape", "text": "eats figs"}
    Path(made.handle.view.reading.of(row["title"], row["text"])).touch()
    with served(application(Served([made], registry=registry), writes=True)) as url:
        answer = httpx.put(f"{url}/documents", json={"documents": [row]}, timeout=60)
        assert answer.status_code == 400
