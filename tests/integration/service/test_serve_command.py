"""`diptych serve` as a process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from diptych import Collection, Registry
from diptych.cli.app import main
from diptych.cli.run_command import Session
from serving import ANIMALS, FAKES, until

CONFIG = """\
store: edge:./qdrant
collection: animals
slots:
  dense: {adapter: fake-dense, delay: 0.3}
cache: {enabled: false}
"""


@pytest.fixture
def folder(tmp_path: Path, fakes: Registry) -> Path:
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    with Collection.open(tmp_path / "diptych.yaml", registry=fakes) as collection:
        collection.populate({"id": key, "text": text} for key, text in ANIMALS.items())
    return tmp_path


@contextmanager
def running(folder: Path, *args: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    clean = {name: value for name, value in os.environ.items() if name != "DIPTYCH_API_KEY"}
    process = subprocess.Popen(
        [sys.executable, "-c", FAKES, "serve", "--port", "0", "--json", *args],
        cwd=folder,
        env={**clean, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def document(process: subprocess.Popen[str]) -> Any:
    """The JSON document that says where it listens."""
    assert process.stdout is not None
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if line == "}\n":
            return json.loads("".join(lines))
    raise AssertionError(process.communicate()[1])


@pytest.mark.slow
def test_it_says_where_it_listens_and_ends_in_order_at_sigterm(folder: Path, fakes: Registry) -> None:
    with running(folder, env={"DIPTYCH_API_KEY": "k1,k2"}) as process:
        said = document(process)
        assert said == {"url": said["url"], "collections": ["animals"], "models": ["dense"]}
        with httpx.Client(base_url=said["url"], headers={"Authorization": "Bearer k2"}, timeout=60) as client:
            until(lambda: client.get("/readyz").status_code == 200)
            assert client.post("/search", json={"query": "cat"}).json()["results"][0]["hits"][0]["id"] == "cat"
            assert client.post("/search", json={"query": "x"}, headers={"Authorization": ""}).status_code == 401
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
        assert process.stderr is not None
        log = process.stderr.read()
        assert "POST /search 200" in log
        assert "Traceback" not in log
    with Collection.open(folder / "diptych.yaml", registry=fakes, create=False) as again:
        assert again.count() == 4


def test_names_that_are_not_this_machines_are_refused_without_a_key(folder: Path) -> None:
    with running(folder) as process:
        url = document(process)["url"]
        assert httpx.get(f"{url}/v1/models").status_code == 200
        assert httpx.get(f"{url}/v1/models", headers={"Host": "rebound.example.org"}).status_code == 421


def said(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    with pytest.raises(SystemExit) as left:
        main(["serve", "--json", *args], session=Session(Registry(installed=False)))
    assert left.value.code == 1
    return json.loads(capsys.readouterr().err)["error"]


def test_other_machines_are_listened_to_with_a_key_only(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIPTYCH_API_KEY", raising=False)
    error = said(capsys, "--host", "0.0.0.0")
    assert error["what"] == "an address that other machines can reach needs an API key"
    assert "--insecure" in error["do"]


def test_a_missing_package_names_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert said(capsys)["do"] == "pip install 'diptych[serve]'"


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    with running(folder) as process:
        port = document(process)["url"].rpartition(":")[2]
        assert said(capsys, "--port", port)["what"] == "cannot listen at this address"


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--collection", "a"], "--collection goes with --store"),
        (["--store", "memory:"], "no collection is named"),
        (["--encoders-only", "--store", "memory:"], "--encoders-only opens no store"),
        (["--encoders-only", "--adapter", "nobody"], "no adapter is called 'nobody'"),
        (["--api-keys-env", "NO_SUCH_KEYS"], "environment variable NO_SUCH_KEYS is not set"),
        (["--api-keys-env", "sk-1234"], "this is not the name of an environment variable"),
    ],
)
def test_options_that_do_not_fit_say_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    error = said(capsys, "--port", "0", *args)
    assert error["what"] == what
    assert "sk-1234" not in json.dumps(error)
