"""`diptych studio`: what it serves and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from diptych import Collection, Registry
from diptych.cli.app import main
from diptych.cli.run_command import Session
from diptych.errors import ConfigError, EvaluationError
from diptych_serve.cli.serve import studio_of
from serving import ANIMALS

CONFIG = "store: edge:./qdrant\ncollection: animals\nslots: {dense: {adapter: fake-dense}}\ncache: {enabled: false}\n"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, fakes: Registry, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "diptych.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DIPTYCH_API_KEY", raising=False)
    return tmp_path


@pytest.fixture
def run(folder: Path, fakes: Registry, capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(args), session=Session(fakes))
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


@pytest.fixture
def apps(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The applications that commands would run."""
    found: list[Any] = []
    monkeypatch.setattr("diptych_serve.service.server.run", lambda app, listening, **options: found.append(app))
    monkeypatch.setattr("diptych_serve.service.server.log_to_stderr", lambda *level: None)
    return found


def test_it_serves_the_page_over_the_config(folder: Path, fakes: Registry, run: Run, apps: list[Any]) -> None:
    with Collection.open(folder / "diptych.yaml", registry=fakes) as collection:
        collection.populate({"id": key, "text": text} for key, text in ANIMALS.items())
    code, out, _ = run("studio", "--port", "0", "--json")
    assert code == 0
    assert json.loads(out)["collections"] == ["animals"]
    client = TestClient(apps[0], base_url="http://localhost")
    assert client.get("/studio/").status_code == 200
    snippets = client.post("/studio/api/snippets", json={"query": "cat"}).json()
    assert "Collection.open('diptych.yaml')" in snippets["python"]
    state = client.get("/studio/api/state").json()
    assert (state["may_write"], state["may_judge"]) == (False, False)
    apps[0].state.serving.served.close()


def test_a_collection_is_opened_by_its_store_alone(folder: Path, fakes: Registry, run: Run, apps: list[Any]) -> None:
    with Collection.open(folder / "diptych.yaml", registry=fakes) as collection:
        collection.populate({"id": key, "text": text} for key, text in ANIMALS.items())
    code, _, err = run("studio", "--store", "edge:./qdrant", "--collection", "animals", "--port", "0", "--allow-writes")
    assert code == 0
    assert "Studio of animals is at http://127.0.0.1:" in err
    client = TestClient(apps[0], base_url="http://localhost")
    snippets = client.post("/studio/api/snippets", json={"query": "cat"}).json()
    assert "Collection.open('edge:./qdrant', 'animals')" in snippets["python"]
    assert client.get("/studio/api/state").json()["may_write"] is True
    apps[0].state.serving.served.close()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["studio", "--host", "0.0.0.0", "--port", "0"], "needs an API key"),
        (["studio", "--collection", "a"], "--collection goes with --store"),
        (["studio", "-c", "other.yaml", "--port", "0"], "there is no config file"),
    ],
)
def test_what_cannot_be_served_says_why(run: Run, apps: list[Any], args: list[str], text: str) -> None:
    code, _, err = run(*args)
    assert (code, apps) == (1, [])
    assert text in err


class Names:
    """The names of what is served."""

    collections = ("animals",)


def test_a_password_of_a_stores_address_is_in_no_snippet() -> None:
    extension = studio_of(Names(), None, "https://user:secret@qdrant.example.org:6333", None, None, writes=False)  # type: ignore[arg-type]
    assert extension.state["studio"].opened == {"animals": "'https://qdrant.example.org:6333', 'animals'"}


def test_folders_that_are_not_there_are_refused_at_the_start(folder: Path) -> None:
    with pytest.raises(EvaluationError, match=r"queries\.jsonl"):
        studio_of(Names(), None, None, [folder / "nowhere"], None, writes=False)  # type: ignore[arg-type]
    for place in (folder / "nowhere" / "grades", folder / "diptych.yaml"):
        with pytest.raises(ConfigError, match="grades cannot be saved there"):
            studio_of(Names(), None, None, None, place, writes=False)  # type: ignore[arg-type]
