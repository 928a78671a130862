"""The configs that `diptych init --provider` writes, against imitations of the services that they ask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

import diptych_adapters.hooks
from diptych import Collection, Document, Registry
from diptych.cli import app
from diptych.cli.init import PROVIDERS
from diptych.cli.run_command import Session
from diptych.config import load_config
from diptych.config.yaml_files import plain_values
from diptych.errors import RemoteError
from json_server import json_server
from provider_imitations import KEY, Imitation, imitations

TEXTS = [f"text about topic{n}" for n in range(130)]
BUILTIN = Registry(diptych_adapters.hooks, installed=False)


@pytest.fixture(params=PROVIDERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def imitation(name: str) -> Imitation:
    return imitations()[name]


@pytest.fixture
def url(imitation: Imitation, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in ("OPENAI", "COHERE", "JINA", "VOYAGE", "MISTRAL"):
        monkeypatch.setenv(f"{variable}_API_KEY", KEY)
    with json_server(imitation.answer) as address:
        yield address


def here(options: dict[str, Any], url: str, path: str) -> dict[str, Any]:
    """The options, with the imitation's address in place of the provider's; the path stays."""
    given = options.pop("base_url", path)
    return {**options, "base_url": url + (urlsplit(given).path or ""), "backoff": 0.001}


def options_of(name: str) -> dict[str, Any]:
    options: dict[str, Any] = plain_values(f"{{{PROVIDERS[name][0]}}}")
    return options


def encoder(name: str, url: str, **options: Any) -> Any:
    return BUILTIN.create("remote", {**here(options_of(name), url, _DEFAULTS.get(name, "")), **options})


_DEFAULTS = {"openai": "https://api.openai.com/v1", "cohere": "https://api.cohere.com/v2"}


def test_a_refusal_is_told_in_the_providers_words_without_the_key(
    name: str, imitation: Imitation, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RemoteError, match=r"answered 422(.|\n)*(extra fields not permitted|must be one of)"):
        encoder(name, url, dimension=8, query_fields={"nonsense": 1}).encode_query(["text"])
    if imitation.keyless:
        return
    wrong = "key-that-is-wrong-9876543210"
    monkeypatch.setenv(options_of(name)["api_key_env"], wrong)
    with pytest.raises(RemoteError, match=r"answered 401(.|\n)*invalid key \*\*\*(.|\n)*check the key") as caught:
        encoder(name, url, dimension=8).encode_query(["text"])
    assert wrong[:8] not in str(caught.value)


def test_the_file_of_init_fills_and_searches_with_the_reranker(
    name: str, imitation: Imitation, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["init", "--provider", name], obj=Session(BUILTIN))
    assert result.exit_code == 0, result.output
    path = tmp_path / "diptych.yaml"
    text = path.read_text().replace("  # rerank:", "  rerank:") if PROVIDERS[name][1] else path.read_text()
    if name in _DEFAULTS:  # whose address is the adapter's own
        text = re.sub(rf"api: {name}(, |\n *)", rf"api: {name}\1base_url: {_DEFAULTS[name]}\1", text, count=1)
    path.write_text(re.sub(r"base_url: https?://[^/,}]+", f"base_url: {url}", text))
    config = load_config(path)
    with Collection.open(config, registry=BUILTIN) as collection:
        collection.populate([Document(f"d{n}", text) for n, text in enumerate(TEXTS)])
        hits = collection.search("topic17", limit=50)
    ids = [hit.document.id for hit in hits]
    assert "d17" in ids
    assert bool(config.search.rerank) == bool(PROVIDERS[name][1])
    if config.search.rerank:
        assert (ids[0], hits[0].score) == ("d17", 1.0)
