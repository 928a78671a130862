"""Ctrl-C at any moment of any command: exit code 130 and no traceback, and the next run of the command goes on.

DIPTYCH_INTERRUPTS says how often each command is interrupted (2, and 1 where it takes long to start). How long each
took is printed (`pytest -s`).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import models

import preloaded_process
from diptych import client
from diptych.encoders import Encoders
from every_recipe import options_of, write_world

TIMES = int(os.environ.get("DIPTYCH_INTERRUPTS", "2"))
FEW = int(os.environ.get("DIPTYCH_INTERRUPTS", "1"))  # of commands that take long to start
COMMAND = Path(sys.executable).with_name("diptych")
PENDING = 4  # the exit code of a plan with changes
BROKEN = ("Traceback", "terminate called", "Fatal Python", "Exception ignored", "core dumped")
IMPORTED = "_pydantic_core"  # a library that is loaded once diptych handles Ctrl-C
WORDS = ("audio", "convert", "files", "music", "network", "picture", "print", "scan", "sound", "video")
LEXICAL: dict[str, object] = {"lexical": {"adapter": "bm25", "language": "english"}}
DENSE = {"dense": {"adapter": "sentence-transformers", "model": "all-MiniLM-L6-v2", "device": "cpu"}}


class Folder:
    """A folder with a config, a corpus and judged queries, in which commands are run."""

    def __init__(self, path: Path, slots: dict[str, object], documents: int) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.configure(slots)
        texts = [f"number{n} " + " ".join(random.Random(n).choices(WORDS, k=30)) for n in range(documents)]
        lines = [json.dumps({"_id": str(n), "text": text}) for n, text in enumerate(texts)]
        (path / "corpus.jsonl").write_text("\n".join(lines) + "\n")
        queries = [json.dumps({"_id": f"q{n}", "text": " ".join(texts[n].split()[:4])}) for n in range(30)]
        (path / "queries.jsonl").write_text("\n".join(queries) + "\n")
        judged = [f"q{n}\t{n}\t1" for n in range(30)]
        (path / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]) + "\n")

    def configure(self, slots: dict[str, object]) -> None:
        evaluate = {"queries": "queries.jsonl", "qrels": "qrels.tsv"}
        config = {"store": "edge:./store", "collection": "c", "slots": slots, "evaluate": evaluate}
        (self.path / "diptych.yaml").write_text(json.dumps(config))

    def start(self, *words: str, command: Sequence[str] = (str(COMMAND),)) -> subprocess.Popen[str]:
        environment = {**os.environ, "XDG_CACHE_HOME": str(self.path.parent / "cache")}
        return subprocess.Popen(
            [*command, *words],
            cwd=self.path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str, codes: tuple[int, ...] = (0,), imported: bool = True) -> float:
        """Run a command to its end, in a process that has imported what it needs, or not; the seconds that it took."""
        begin = time.monotonic()
        process = self.start(*words, command=preloaded_process.words("diptych") if imported else (str(COMMAND),))
        out, said = process.communicate(timeout=600)
        assert process.returncode in codes, f"{words}: {process.returncode}\n{out}{said}"
        return time.monotonic() - begin

    def interrupt(self, come: Callable[[], bool], *words: str, presses: int = 1) -> tuple[int, str, float]:
        """Start a command, press Ctrl-C when the moment has come: exit code, standard error, and how long it took."""
        process = self.start(*words)
        handled = Path(f"/proc/{process.pid}/maps")
        while process.poll() is None and (not come() or IMPORTED not in maps(handled)):
            time.sleep(0.005)
        begin = time.monotonic()
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        _, said = process.communicate(timeout=120)
        return process.returncode, said, time.monotonic() - begin


def maps(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return IMPORTED  # the process has ended


def interrupted_at_random(
    folder: Folder,
    *words: str,
    codes: tuple[int, ...] = (0,),
    restore: bool = False,
    times: int = TIMES,
    first: int = 1,
    whole: float | None = None,
) -> float:
    """Interrupt a command at random moments, `first` by one Ctrl-C or by two; then it runs to its end.

    Returns:
        the seconds that it takes undisturbed, unless `whole` says so.
    """
    kept = folder.path.with_name("kept")
    if restore:
        shutil.copytree(folder.path, kept)
    whole = folder.run(*words, codes=codes, imported=False) if whole is None else whole
    for number in range(times):
        if restore:
            shutil.rmtree(folder.path)
            shutil.copytree(kept, folder.path)
        presses = 1 + (number + first - 1) % 2
        after = random.Random(f"{words} {number}").uniform(0, whole)
        print(f"after {after:.2f} of {whole:.2f} s, ", end="")
        interrupted(folder, passed(after), *words, presses=presses, codes=codes)
    folder.run(*words, codes=codes)
    return whole


def passed(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have passed since now."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() >= until


def interrupted(
    folder: Folder, come: Callable[[], bool], *words: str, presses: int = 1, codes: tuple[int, ...] = (0,)
) -> None:
    """Interrupt a command once."""
    code, said, seconds = folder.interrupt(come, *words, presses=presses)
    print(f"{words[0]}: {presses} x Ctrl-C took {seconds:.2f} s: {code}")
    # -2: Python has given the signal back to the system, since it ends
    assert code in (130, -signal.SIGINT, *codes), f"exit code {code}\n{said}"
    assert not any(word in said for word in BROKEN), said
    assert code != 130 or "interrupted" in said


def static_slot(path: Path) -> dict[str, object]:
    """A dense slot of static vectors for `WORDS`, which takes no time to load."""
    model2vec = pytest.importorskip("model2vec", reason="needs diptych[static]")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: number for number, word in enumerate(["[UNK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    rows = np.random.default_rng(0).normal(size=(len(words), 64)).astype(np.float32)
    model2vec.StaticModel(rows, tokenizer, normalize=True).save_pretrained(path)
    return {"dense": {"adapter": "static", "model": str(path)}}


@pytest.fixture
def lexical(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "folder", dict(LEXICAL), 2000)


@pytest.fixture
def dense(tmp_path: Path) -> Folder:
    pytest.importorskip("sentence_transformers", reason="needs diptych[torch]")
    return Folder(tmp_path / "folder", {**LEXICAL, **DENSE}, 300)


@pytest.mark.parametrize(
    "met",
    ["class Met:\n    def __del__(self): signal.raise_signal(signal.SIGINT)", "class Met: pass"],
    ids=["a finalizer", "a callback of a weak reference"],
)
def test_an_interrupt_where_exceptions_are_only_printed_comes_again(met: str) -> None:
    program = f"""
import signal, time, weakref
from diptych.runtime import interrupts

{met}

def command():
    met = Met()
    weakref.finalize(met, signal.raise_signal, signal.SIGINT) if "__del__" not in dir(Met) else None
    del met
    while True:
        time.sleep(0.001)

interrupts.run(command)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


GERMAN: dict[str, object] = {"lexical": {"adapter": "bm25", "language": "german"}}
WORDS_OF: dict[str, tuple[tuple[str, ...], dict[str, object]]] = {  # a command after a populate, and the slots then
    "populate": (("populate", "corpus.jsonl"), LEXICAL),
    "search": (("search", "convert audio"), LEXICAL),
    "explain": (("search", "convert audio", "--explain"), LEXICAL),
    "plan": (("plan",), GERMAN),
    "apply": (("apply", "--ignore-gate"), GERMAN),
    "evaluate": (("evaluate",), LEXICAL),
    "copy": (("copy", "diptych.yaml", "edge:./other"), LEXICAL),
    "info": (("info",), LEXICAL),
    "doctor": (("doctor",), LEXICAL),
    "demo": (("demo", "shown"), LEXICAL),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", WORDS_OF)
def test_a_command_over_a_collection_of_words(lexical: Folder, command: str) -> None:
    words, slots = WORDS_OF[command]
    if command != "populate":
        lexical.run("populate", "corpus.jsonl")
    lexical.configure(slots)
    interrupted_at_random(lexical, *words, codes=(0, PENDING) if command == "plan" else (0,), restore=True)


@pytest.mark.slow(first=True)
def test_tuning_of_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))  # a second Ctrl-C leaves its stores there
    folder = Folder(tmp_path / "folder", static_slot(tmp_path / "model"), 2000)
    folder.run("populate", "corpus.jsonl")
    interrupted_at_random(folder, "tune", "index", "--queries", "queries.jsonl", restore=True)


@pytest.mark.slow(first=True)
def test_a_training(lexical: Folder) -> None:
    pytest.importorskip("sentence_transformers", reason="needs diptych[train]")
    write_world(lexical.path)
    recipe = options_of("contrastive", lexical.path, lexical.path / "run", epochs=3)
    (lexical.path / "recipe.yaml").write_text(json.dumps(recipe))
    interrupted_at_random(lexical, "train", "recipe.yaml", restore=True, times=FEW)


@pytest.mark.slow
def test_taking_over_a_collection(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "folder", static_slot(tmp_path / "model"), 300)
    rows = [json.loads(line) for line in (folder.path / "corpus.jsonl").read_text().splitlines()]
    vectors = Encoders.open(folder.path / "diptych.yaml")["dense"].encode_document([row["text"] for row in rows])
    points = [
        models.PointStruct(id=n, vector={"dense": np.asarray(vector).tolist()}, payload=row)
        for n, (row, vector) in enumerate(zip(rows, vectors, strict=True))
    ]
    with closing(client(f"edge:{folder.path / 'store'}")) as store:
        size = models.VectorParams(size=len(vectors[0]), distance=models.Distance.COSINE)
        store.create_collection("c", vectors_config={"dense": size})
        store.upsert("c", points)
    interrupted_at_random(folder, "adopt", restore=True)


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_populate_by_ray_and_none_of_its_processes_stays(lexical: Folder) -> None:
    pytest.importorskip("ray", reason="needs diptych[ray]")
    words = ("populate", "corpus.jsonl", "--engine", "ray", "--workers", "1")

    def come() -> bool:
        """Whether so many of its processes have begun, of some fifteen."""
        time.sleep(0.1)
        return len(processes_of(lexical)) >= begun

    for number in range(FEW):
        begun = random.Random(number).randint(2, 12)
        interrupted(lexical, come, *words)
        print(f"of {begun} processes")
    lexical.run(*words)
    until = time.monotonic() + 60
    while time.monotonic() < until and processes_of(lexical):
        time.sleep(0.5)
    assert processes_of(lexical) == []


def processes_of(folder: Folder) -> list[str]:
    """The commands of processes that were started for a folder, and of their children."""
    mark, found = f"XDG_CACHE_HOME={folder.path.parent / 'cache'}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (process / "environ").read_bytes().split(b"\0"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or is another user's
            continue
    return found


@pytest.mark.slow(first=True)
def test_commands_that_load_torch(dense: Folder) -> None:
    # All of them load the encoder, which takes most of their time.
    whole = interrupted_at_random(dense, "populate", "corpus.jsonl", restore=True, times=FEW)
    interrupted_at_random(dense, "search", "convert audio", times=FEW, first=2, whole=whole)
    interrupted_at_random(dense, "evaluate", times=FEW, whole=whole)
    dense.configure({**LEXICAL, "dense": {**DENSE["dense"], "max_length": 64}})
    shutil.rmtree(dense.path.with_name("kept"))
    interrupted_at_random(dense, "apply", "--ignore-gate", restore=True, times=FEW, first=2, whole=whole)
