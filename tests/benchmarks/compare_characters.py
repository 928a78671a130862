"""Misspelt names: character n-grams by BM25 beside a trained encoder of characters, each in hybrid search.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_characters.py --out build/characters

Documents are the 57,980 packages of debian-synopsis, with the package's name as title. Queries are names as they are,
names with one edit (a letter left out, put in, replaced, two swapped, or a hyphen left out), and one-line descriptions
of packages by their authors, which are paraphrases of the text. Edits that give the name of another package are drawn
again. A tenth of the names, drawn by the seed, is not in the training of the encoder, and 500 of these are asked.

`characters` is DiffSTE's character branch as an encoder: an embedding of 32 numbers for each symbol and each place, two
convolutions over three places, mean and maximum over the places, a vector of 128. It is trained with InfoNCE from names
with one or two edits to names, in batches of 16 runs of 16 alphabetical neighbours. Intervals are Student's over the
seeds, 95 %. Hybrid search is measured on the first packages by name, look-alikes included; among all packages, the
slots alone and beside BM25.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from scipy import sparse
from torch import nn

from corpora import folder_of
from diptych import Registry
from diptych.evaluate import Qrels, read_queries
from diptych.types import Floats
from diptych_lab.tune.trials import Candidates, Legs
from effects.running import student_interval
from fusion_sets import MINILM, _matrix
from machine import facts

OPTIONS = {"model": MINILM, "precision": "bfloat16", "max_length": 64}
SEEDS, ASKED, DEPTH, HELD = (0, 1, 2), 500, 100, 0.1
SYMBOLS = string.ascii_lowercase + string.digits + "-.+"  # what Debian's names are made of
PLACES, WIDTH, CHANNELS, DIMENSION = 40, 32, 64, 128
RUNS, NEIGHBOURS, TAU, RATE = 16, 16, 0.05, 3e-3
FIRST, SEEN = 125, 10_000  # steps to the first look; names that are searched then
MISSING = -2.5  # deviations, of z-scores
Found: TypeAlias = Mapping[str, Sequence[Candidates]]  # by slot


class System(NamedTuple):
    """One slot, or several with weights."""

    name: str
    slots: Mapping[str, float]
    fusion: str = "dbsf"


def edited(name: str, chance: random.Random, taken: frozenset[str] = frozenset()) -> str:
    """The name after one edit that does not give another name."""
    while True:
        place, kind = chance.randrange(len(name)), chance.choice(("out", "in", "other", "swap", "hyphen"))
        letter = chance.choice(SYMBOLS[:36])
        found = {
            "out": name[:place] + name[place + 1 :],
            "in": name[:place] + letter + name[place:],
            "other": name[:place] + letter + name[place + 1 :],
            "swap": name[:place] + name[place + 1 : place + 2] + name[place] + name[place + 2 :],
            "hyphen": name[:place] + name[place:].replace("-", "", 1),
        }[kind]
        if found and found != name and found not in taken:
            return found


class Characters(nn.Module):
    """Vectors of unit length of names `[n, DIMENSION]`."""

    def __init__(self) -> None:
        super().__init__()
        self.symbols = nn.Embedding(len(SYMBOLS) + 2, WIDTH, padding_idx=0)
        self.places = nn.Parameter(torch.zeros(PLACES, WIDTH))
        self.first = nn.Conv1d(WIDTH, CHANNELS, 3, padding=1)
        self.second = nn.Conv1d(CHANNELS, CHANNELS, 3, padding=1)
        self.out = nn.Linear(2 * CHANNELS, DIMENSION)

    def forward(self, numbers: torch.Tensor) -> torch.Tensor:
        """Of symbols `[n, PLACES]`, 0 behind the end."""
        there = (numbers > 0)[:, None, :]
        hidden = (self.symbols(numbers) + self.places[: numbers.shape[1]]).transpose(1, 2)
        hidden = nn.functional.gelu(self.first(hidden * there)) * there
        hidden = nn.functional.gelu(self.second(hidden)) * there
        mean = hidden.sum(2) / there.sum(2).clamp(min=1)
        most = hidden.masked_fill(~there, -1e4).amax(2)
        return nn.functional.normalize(self.out(torch.cat([mean, most], 1)).float(), dim=1)


def numbers_of(names: Sequence[str]) -> torch.Tensor:
    """Symbols as numbers from 2, others as 1, 0 behind the end `[n, longest]`."""
    cut = [name.lower()[:PLACES] for name in names]
    rows = np.zeros((len(cut), max(map(len, cut))), np.int64)
    for row, name in zip(rows, cut, strict=True):
        row[: len(name)] = [SYMBOLS.find(letter) + 2 for letter in name]
    return torch.from_numpy(rows)


def encoded(network: nn.Module, names: Sequence[str]) -> Floats:
    """In batches of 2,000."""
    with torch.inference_mode():
        parts = [network(numbers_of(names[at : at + 2000])).numpy() for at in range(0, len(names), 2000)]
    return np.concatenate(parts)


def network_of(out: Path, names: Sequence[str], seed: int, steps: int) -> nn.Module:
    """A trained network, which is kept."""
    path = out / f"network-{seed}-{steps}.safetensors"
    if not path.exists():
        save_file(
            {k: v.contiguous() for k, v in trained(split(names, seed)[0], seed, steps).state_dict().items()}, path
        )
    network = Characters()
    network.load_state_dict(load_file(path))
    return network


def trained(names: Sequence[str], seed: int, steps: int) -> nn.Module:
    """The running mean of the weights; R@1 of names of the training is printed after each doubling of the steps."""
    torch.manual_seed(seed)
    chance, rng = random.Random(seed), np.random.default_rng(seed)
    ordered, taken = sorted(names), frozenset(names)
    dev = random.Random(seed).sample(range(SEEN), 500)
    asked = [edited(ordered[place], random.Random(place), taken) for place in dev]
    network = Characters()
    mean = torch.optim.swa_utils.AveragedModel(network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    for step in range(1, steps + 1):
        starts = rng.integers(0, len(ordered) - NEIGHBOURS, RUNS)
        batch = list(dict.fromkeys(ordered[start + n] for start in starts for n in range(NEIGHBOURS)))
        queries = [edited(name, chance) for name in batch]
        queries = [edited(name, chance) if chance.random() < 0.5 else name for name in queries]
        scores = network(numbers_of(queries)) @ network(numbers_of(batch)).T
        loss = nn.functional.cross_entropy(scores / TAU, torch.arange(len(batch)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        mean.update_parameters(network)
        if step in {FIRST * 2**n for n in range(10)}:
            found = (encoded(mean, asked) @ encoded(mean, ordered[:SEEN]).T).argmax(1)
            print(f"   seed {seed}, {step} steps: R@1 {np.mean(found == dev):.3f}, loss {loss:.3f}", flush=True)
    return mean.module


def best_dense(queries: Floats, documents: Floats) -> list[Candidates]:
    """The best `DEPTH` of each query, by places of documents."""
    found: list[Candidates] = []
    for at in range(0, len(queries), 250):
        scores = queries[at : at + 250] @ documents.T
        tops = np.argpartition(-scores, DEPTH, axis=1)[:, :DEPTH]
        for row, top in zip(scores, tops, strict=True):
            found.append([(int(n), float(row[n])) for n in sorted(top, key=lambda n: (-row[n], n))])
    return found


def best_sparse(adapter: str, options: Mapping[str, Any], texts: Sequence[str]) -> Callable[[Sequence[str]], Any]:
    """Searches the texts by a sparse adapter, with Qdrant's IDF."""
    made: Any = Registry.default().create(adapter, options)
    made.calibrate(made.measure(texts))
    vectors = made.encode_document(texts)
    words = {index: n for n, index in enumerate(sorted({int(i) for own in vectors for i in own.indices}))}
    matrix = _matrix(vectors, words)
    counts = np.asarray((matrix > 0).sum(axis=0)).ravel()
    idf, right = np.log(1 + (len(texts) - counts + 0.5) / (counts + 0.5)), sparse.csc_array(matrix.T)
    print(f"   {adapter} {dict(options)}: {matrix.nnz * 8 / 1e6:.1f} MB", flush=True)

    def search(queries: Sequence[str]) -> Iterator[Candidates]:
        for at in range(0, len(queries), 100):
            left = _matrix(made.encode_query(list(queries[at : at + 100])), words).multiply(idf)
            scores = sparse.csr_array(sparse.csr_array(left) @ sparse.csr_array(right))
            for row in range(scores.shape[0]):
                own = slice(scores.indptr[row], scores.indptr[row + 1])
                places, values = scores.indices[own], scores.data[own]
                order = np.lexsort((places, -values))[:DEPTH]
                yield [(int(places[n]), float(values[n])) for n in order]

    return lambda queries: list(search(queries))


def first_right(found: Found, system: System, right: Sequence[int]) -> Floats:
    """Whether the first is right, of each query."""
    slots = list(system.slots)
    legs = Legs.of({slot: found[slot] for slot in slots}, [{str(own): 1} for own in right], cutoff=1)
    if len(slots) == 1:
        return np.asarray(legs.alone(slots[0]), np.float32)
    parts = legs.parts("dbsf") if system.fusion == "dbsf" else legs.parts("zscore", missing=MISSING)
    return np.asarray(legs.values((np.array([*system.slots.values()])[None, :, None] * parts).sum(axis=1)), np.float32)


def main() -> None:
    """Encode, train, search and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/characters"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[*SEEDS])
    parser.add_argument("--steps", type=int, default=250, help="of each training; 0 trains no encoder")
    parser.add_argument(
        "--hybrid", type=int, default=10_240, help="first packages by name that are searched by all; 0: none"
    )
    parser.add_argument("--all", action="store_true", help="also search all packages, without MiniLM")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    names, texts = packages(folder_of("debian-synopsis"))
    data: dict[str, Any] = {"machine": facts()}
    networks = {seed: network_of(given.out, names, seed, given.steps) for seed in given.seeds if given.steps}
    for title, size in (("hybrid", given.hybrid), ("all packages", len(names) * given.all)):
        if not size:
            continue
        values = measured(names[:size], texts[:size], networks, given, hybrid=title == "hybrid")
        print(f"\n{title}: {size:,}")
        for name, numbers in values.items():
            print(f"{name} | {told(numbers)}{beside_default(name, values)}", flush=True)
        data[title] = values
        (given.out / "found.json").write_text(json.dumps(data, indent=1) + "\n", "utf-8")


def told(numbers: Sequence[float], sign: str = "") -> str:
    """The mean over the seeds, and Student's interval."""
    low, high = student_interval(np.array(numbers)) if len(numbers) > 1 else (float("nan"),) * 2
    return f"{np.mean(numbers):{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def beside_default(name: str, values: Mapping[str, Sequence[float]]) -> str:
    """The difference of a hybrid from the default one, seed by seed."""
    default = values.get(f"hybrid, dbsf | {name.split(' | ')[1]}")
    if default is None or not name.startswith("hybrid"):
        return ""
    return f" | {told(np.subtract(values[name], default).tolist(), '+')}"


def split(names: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """The names of the training, and those that are asked for."""
    order = random.Random(seed).sample(names, len(names))
    count = round(HELD * len(names))
    return order[count:], order[:count]


def measured(
    names: Sequence[str], texts: Sequence[str], networks: Mapping[int, nn.Module], given: Any, *, hybrid: bool
) -> dict[str, list[float]]:
    """R@1 by system and kind of query, of each seed."""
    both = [f"{name} {text}" for name, text in zip(names, texts, strict=True)]
    made: dict[str, tuple[str, dict[str, Any]]] = {
        "bm25": ("bm25", {"language": "english"}),
        "ngrams 4": ("bm25", {"terms": "ngrams"}),
        "name ngrams 4": ("bm25", {"terms": "ngrams", "first_words": 1}),
        "name ngrams 2-3": ("bm25", {"terms": "ngrams", "minimum": 2, "maximum": 3, "first_words": 1}),
    }
    searches: dict[str, Any] = {name: best_sparse(*own, both) for name, own in made.items()}
    if hybrid:
        dense: Any = Registry.default().create("sentence-transformers", OPTIONS)
        documents = kept(given.out / f"minilm-{len(both)}.npy", lambda: encoded_by(dense.encode_document, both))
        searches["minilm"] = lambda queries: best_dense(np.asarray(dense.encode_query(list(queries))), documents)
    places = {name: place for place, name in enumerate(names)}
    taken, values = frozenset(names), dict[str, list[float]]()
    for seed in given.seeds:
        held = [name for name in split(packages(folder_of("debian-synopsis"))[0], seed)[1] if name in places][:ASKED]
        chance = random.Random(seed)
        edits = [edited(name, chance, taken) for name in held]
        asked = {
            "names": [(name, places[name]) for name in held],
            "one edit": [(edit, places[name]) for edit, name in zip(edits, held, strict=True)],
            "paraphrases": paraphrases(places, seed),
        }
        own = dict(searches)
        if seed in networks:
            vectors = encoded(networks[seed], names)
            own["characters"] = lambda queries, n=networks[seed], v=vectors: best_dense(encoded(n, list(queries)), v)
        for kind, pairs in asked.items():
            found = {slot: search([query for query, _ in pairs]) for slot, search in own.items()}
            for system in systems(list(own)):
                share = first_right(found, system, [place for _, place in pairs]).mean()
                values.setdefault(f"{system.name} | {kind}", []).append(float(share))
            print(f"   {seed}, {kind}: {len(pairs)} queries", flush=True)
    return values


def paraphrases(places: Mapping[str, int], seed: int) -> list[tuple[str, int]]:
    """One-line descriptions of packages that are there, drawn by the seed, with the place of each."""
    folder = folder_of("debian-synopsis")
    texts = {query.id: query.text for query in read_queries(folder / "queries.jsonl.gz")}
    pairs = [
        (texts[query], places[name])
        for part in ("dev", "test", "train")
        for query, own in Qrels.read(folder / f"qrels/{part}.tsv").judgements.items()
        for name in own
        if name in places
    ]
    return random.Random(seed).sample(pairs, min(ASKED, len(pairs)))


def systems(slots: Sequence[str]) -> Iterator[System]:
    """Each slot alone; then BM25, with MiniLM if it is there, and each other slot beside them, with weights."""
    for slot in slots:
        yield System(slot, {slot: 1.0})
    today = {slot: 1.0 for slot in ("minilm", "bm25") if slot in slots}
    for fusion, weights in (("dbsf", (1.0,)), ("z-scores", (1.0, 0.7, 0.5, 0.3))):
        yield System(f"hybrid, {fusion}", today, fusion)
        for slot, weight in itertools.product([own for own in slots if own not in today], weights):
            yield System(f"hybrid, {fusion}, {weight:g} {slot}", {**today, slot: weight}, fusion)


def packages(folder: Path) -> tuple[list[str], list[str]]:
    """Names and descriptions."""
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [row["_id"] for row in rows], [row["text"] for row in rows]


def encoded_by(encode: Callable[[list[str]], Floats], texts: Sequence[str]) -> Floats:
    """In parts, with progress."""
    parts = []
    for at in range(0, len(texts), 4096):
        parts.append(np.asarray(encode(list(texts[at : at + 4096])), np.float32))
        print(f"   {at + len(parts[-1]):,} encoded", flush=True)
    return np.concatenate(parts)


def kept(path: Path, make: Callable[[], Floats]) -> Floats:
    """An array that is made once."""
    if not path.exists():
        np.save(path, make())
    return np.asarray(np.load(path))


if __name__ == "__main__":
    main()
