"""Programs that use diptych in a process whose traffic and files are recorded. `python private_runs.py NAME FOLDER`."""

from __future__ import annotations

import contextlib
import json
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SLOTS = {
    "dense": {"adapter": "sentence-transformers", "model": "dense", "backend": "onnx"},
    "other": {"adapter": "sentence-transformers", "model": "dense", "backend": "openvino"},
    "fast": {"adapter": "fastembed", "model": "paraphrase", "output": "461", "pooling": "disabled"},
    "lexical": {"adapter": "bm25", "language": "english"},
}
DOCUMENTS = [{"id": word, "text": f"the {word} is in the word{n}"} for n, word in enumerate(["cat", "dog", "owl"])]


def write_project(folder: Path, slots: dict[str, Any], store: str = "qdrant") -> None:
    """diptych.yaml over a store of its own, with documents, queries and judgements."""
    config = {
        "store": f"edge:{folder / store}",
        "collection": "animals",
        "slots": slots,
        "search": {"retrieve": dict.fromkeys(slots, 10)},
        "evaluate": {"queries": str(folder / "queries.jsonl"), "qrels": str(folder / "qrels.tsv")},
    }
    (folder / "diptych.yaml").write_text(json.dumps(config))
    for name in ("documents", "queries"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in DOCUMENTS))
    judged = "".join(f"{own['id']}\t{own['id']}\t1\n" for own in DOCUMENTS)
    (folder / "qrels.tsv").write_text(f"query-id\tcorpus-id\tscore\n{judged}")


def command(*arguments: str, codes: tuple[int, ...] = (0,)) -> None:
    """Run a command of diptych in this process."""
    from diptych.cli import main

    code: Any = 0
    try:
        main(arguments)
    except SystemExit as left:
        code = left.code or 0
    assert code in codes, f"{arguments} left with {code}"


def commands(folder: Path) -> None:
    """The commands that load models, over encoders of each engine."""
    slots = {name: {**own, "model": _model(folder, own)} if "model" in own else own for name, own in SLOTS.items()}
    write_project(folder, slots)
    for line in ("doctor", "populate documents.jsonl", "doctor", "search cat", "search cat --only lexical"):
        command(*line.split(), codes=(0, 1) if line == "doctor" else (0,))
    for line in (
        "search cat --explain",
        "evaluate",
        "info",
        "status",
        "adapters",
        "train --list",
        "cache",
        "init --config new.yaml",
    ):
        command(*line.split())
    command("copy", f"edge:{folder / 'qdrant'}", f"edge:{folder / 'copied'}")
    command("tune", "index", "--queries", "queries.jsonl", codes=(0, 1))
    slots["lexical"] = {"adapter": "bm25", "language": "german"}
    write_project(folder, slots)
    for line in ("plan", "apply --no-gate", "status", "rollback", "apply --no-gate", "finish"):
        command(*line.split(), codes=(0, 4) if line == "plan" else (0,))


def _model(folder: Path, slot: dict[str, Any]) -> str:
    local = folder / str(slot["model"])
    return str(local) if local.is_dir() else str(slot["model"])


def adopt(folder: Path) -> None:
    """A collection that a program filled by itself is taken over."""
    import diptych
    from diptych.encoders import Encoders

    write_project(folder, {"dense": {**SLOTS["dense"], "model": _model(folder, SLOTS["dense"])}}, "theirs")
    vectors = Encoders.open(folder / "diptych.yaml")["dense"].encode_document([own["text"] for own in DOCUMENTS])
    with contextlib.closing(diptych.client(f"edge:{folder / 'theirs'}")) as store:
        _fill(store, vectors)
    for line in ("adopt", "search cat"):
        command(*line.split())


def _fill(store: Any, vectors: list[Any]) -> None:
    """A collection as qdrant-client's users make one. Adapters are loaded before: they switch the reports off."""
    import numpy as np
    from qdrant_client import models

    size = models.VectorParams(size=len(vectors[0]), distance=models.Distance.COSINE)
    store.create_collection("animals", vectors_config={"dense": size})
    points = [
        models.PointStruct(id=n, vector={"dense": np.asarray(vector).tolist()}, payload=own)
        for n, (own, vector) in enumerate(zip(DOCUMENTS, vectors, strict=True))
    ]
    store.upsert("animals", points)


def lexical(folder: Path) -> None:
    """A search by words, where FastEmbed is merely installed."""
    write_project(folder, {"lexical": SLOTS["lexical"]}, "words")
    command("populate", "documents.jsonl")
    command("search", "cat", "--only", "lexical")


def others(folder: Path) -> None:
    """The commands that load no model, and the demo."""
    write_project(folder, {"lexical": SLOTS["lexical"]}, "others")
    for line in ("populate documents.jsonl", "populate documents.jsonl --sync --dry-run", "doctor --verify"):
        command(*line.split())
    for line in ("info --all", "info --id cat", "delete owl --yes", "cache clear", "demo shown"):
        command(*line.split())


def train(folder: Path) -> None:
    """A training, from a recipe file to a model."""
    from every_recipe import options_of, write_world

    world = folder / "world"
    world.mkdir()
    write_world(world)
    (folder / "recipe.yaml").write_text(json.dumps(options_of("contrastive", world, folder / "run", epochs=1)))
    command("train", "recipe.yaml")


def services(folder: Path) -> None:
    """`serve` and `serve --edge`, which are asked once and ended, and `serve --mcp`, whose client goes away."""
    write_project(folder, {"lexical": SLOTS["lexical"]}, "served")
    command("populate", "documents.jsonl")
    edge = ["serve", "--edge", str(folder / "served"), "--port", "0", "--json"]
    for arguments in (["serve", "--port", "0", "--json"], edge, ["serve", "--mcp"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "diptych", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdin
        assert process.stdout
        try:
            if "--mcp" not in arguments:
                _ask(json.loads("".join(iter(process.stdout.readline, "}\n")) + "}"))
                process.send_signal(signal.SIGTERM)
            process.stdin.close()
            assert process.wait(120) in (0, 130, 143), arguments
        finally:
            process.kill()


def _ask(said: dict[str, Any]) -> None:
    import httpx

    url = said["urls"][-1] if "urls" in said else said["url"]
    path, body = ("/collections/animals/points/count", {}) if "urls" in said else ("/search", {"query": "cat"})
    headers = {"api-key": said["api_key"]} if "api_key" in said else {}
    httpx.post(url + path, json=body, headers=headers, trust_env=False, timeout=120).raise_for_status()


def bridges(folder: Path) -> None:
    """The frameworks' quick starts with diptych, their pipelines run."""
    for framework in ("haystack", "langchain", "llama_index"):
        sys.path.insert(0, str(ROOT / "examples" / framework))
        with contextlib.suppress(SystemExit):
            runpy.run_path(str(ROOT / "examples" / framework / "after.py"), run_name="__main__")


def ray(folder: Path) -> None:
    """A populate on a Ray of this machine."""
    from diptych import Collection
    from diptych.populate.ray_engine import RayEngine

    write_project(folder, {"lexical": SLOTS["lexical"]}, "rays")
    with Collection.open(folder / "diptych.yaml") as collection:
        collection.populate(DOCUMENTS, engine=RayEngine(workers=1))


def with_models(folder: Path) -> None:
    """All that loads PyTorch, in one process, since loading it takes most of the time."""
    for run in (commands, adopt, train):
        run(folder)


PROGRAMS: dict[str, Callable[[Path], None]] = {
    own.__name__: own for own in (with_models, others, lexical, services, bridges, ray)
}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](Path(sys.argv[2]))
