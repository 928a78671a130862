"""An environment of its own for each peer, made once and kept.

They lie below `.venv-bench` in the checkout, or where DIPTYCH_BENCH_VENVS says. Each has the torch release that diptych
is measured with. pip's own variables apply: without a GPU, `PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu`
saves some gigabytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[3]
HERE = "diptych"  # measured in the environment that runs this
LIBRARY = "sentence-transformers>=6.2,<7"
TORCH = "torch"
PEERS: Mapping[str, Sequence[str]] = {
    "sentence-transformers": (TORCH, LIBRARY, "onnx>=1.17"),  # onnx: its torch writes the file that FastEmbed reads
    "fastembed": ("fastembed>=0.9,<0.10",),
    "langchain": (TORCH, LIBRARY, "langchain-qdrant>=1.1,<2", "langchain-huggingface>=1.2,<2"),
    "llama-index": (
        TORCH,
        LIBRARY,
        "llama-index-vector-stores-qdrant>=0.10.4,<0.11",
        "llama-index-embeddings-huggingface>=0.8,<0.9",
    ),
    "haystack": (TORCH, LIBRARY, "qdrant-haystack>=13.1,<14", "sentence-transformers-haystack>=2,<3"),
}


def folder() -> Path:
    """Where the environments and the converted models are kept."""
    return Path(os.environ.get("DIPTYCH_BENCH_VENVS") or ROOT / ".venv-bench").absolute()


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment, which is made or brought up to date when that is needed.

    Raises:
        CalledProcessError: pip could not install the packages; its own words are on the terminal.
    """
    if peer == HERE:
        return Path(sys.executable)
    place = folder() / peer
    wanted = "\n".join(_requirements(peer))
    stamp = place / "requirements.txt"
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
        print(f"Installing {peer} into {place}; this takes some minutes once.", flush=True)
        venv.create(place, with_pip=True)
        subprocess.run([_python(place), "-m", "pip", "install", "--quiet", *_requirements(peer)], check=True)
        stamp.write_text(wanted, encoding="utf-8")
    return _python(place)


def _requirements(peer: str) -> list[str]:
    ours = version("torch").partition("+")[0]
    return [f"torch=={ours}" if package == TORCH else package for package in PEERS[peer]]


def _python(place: Path) -> Path:
    return place / "bin" / "python"
