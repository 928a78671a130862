"""Learned tokens: K vectors that a model is trained to write for each document, beside as many by `reduce`.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_learned_tokens.py --steps 300 --kept build/tokens

As in Nexus-Gen, tokens at fixed places are put into the input and read out in one pass: [MASK]s at positions that are
spread over the document, with a learned vector each that is added below the trained layers. Their states are the
document's vectors, and the first 16 and 8 of 32 are trained to serve alone. Queries keep a vector for every token.
Only the last layers of all-MiniLM-L6-v2 are trained, on synopses and descriptions of debian-synopsis that are not in
debian-mini: once with the states of the learned tokens as documents, once with those of all tokens, which `ward` and
random choice then reduce. Both see the same batches, each of queries with the nearest documents of some of them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from compare_reduction import Vectors, candidates_of, ranked, reduced_all, show
from corpora import DEBIAN, folder_of, read_documents
from diptych.evaluate import Qrels, compare, evaluate, read_queries
from diptych_adapters.models import resolve
from effects.tiny import warmed_up

MODEL, METRIC, WIDTH = "all-MiniLM-L6-v2", "nDCG@10", 384
KEEP = (32, 16, 8)
SCALE, NEAR, BATCH, RATE, RATE_OF_TOKENS = 50.0, 8, 32, 1e-4, 1e-2
SHORT, LONG = 96, 256  # tokens that are read of a document, in training and in the test
DEV, POOL = 200, 500  # held-out queries, and documents that they are searched among
SPREAD = [int(f"{place:05b}"[::-1], 2) / 32 for place in range(32)]  # any first 2^n lie evenly in [0, 1)


class Reader(torch.nn.Module):
    """MiniLM in two parts: `below` is frozen, `above` is trained and has learned tokens.

    Args:
        tokens: learned ones.
        layers: that are trained.
    """

    def __init__(self, tokens: int, layers: int) -> None:
        from transformers import AutoModel, AutoTokenizer

        super().__init__()
        folder = str(resolve(MODEL).path)
        self.model: Any = AutoModel.from_pretrained(folder)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.tokens, self.split = tokens, len(self.model.encoder.layer) - layers
        self.learned = torch.nn.Parameter(torch.randn(tokens, WIDTH) * 0.02)
        self.eval().requires_grad_(False)
        self.learned.requires_grad_(True)
        for layer in self.model.encoder.layer[self.split :]:
            layer.requires_grad_(True)

    @torch.no_grad()
    def below(self, texts: Sequence[str], longest: int, *, document: bool) -> list[Tensor]:
        """States `[tokens, 384]` below the trained layers; those of learned tokens come first."""
        read = self.tokenizer([*texts], truncation=True, max_length=longest)["input_ids"]
        states: list[Tensor] = [torch.empty(0)] * len(read)
        order = sorted(range(len(read)), key=lambda own: len(read[own]))
        for at in range(0, len(order), BATCH):
            rows = [self._numbers(read[own], document) for own in order[at : at + BATCH]]
            ids, places = (pad_sequence([row[part] for row in rows], batch_first=True) for part in (0, 1))
            mask = _mask([len(row[0]) for row in rows])
            with torch.autocast("cpu", torch.bfloat16):
                hidden = self.model.embeddings(input_ids=ids, position_ids=places)
                for layer in self.model.encoder.layer[: self.split]:
                    hidden = layer(hidden, _additive(mask))
            for own, row, kept in zip(order[at : at + BATCH], hidden, mask, strict=True):
                states[own] = row[kept].bfloat16()
        return states

    def _numbers(self, ids: list[int], document: bool) -> tuple[Tensor, Tensor]:
        """Token ids and positions of a text."""
        count = self.tokens if document else 0
        spread = [int(share * len(ids)) for share in SPREAD[:count]]
        return torch.tensor([self.tokenizer.mask_token_id] * count + ids), torch.tensor([*spread, *range(len(ids))])

    def above(self, states: Sequence[Tensor], *, document: bool) -> tuple[Tensor, Tensor]:
        """Unit vectors `[n, most, 384]` and which of them count; of documents with learned tokens only these."""
        hidden, mask = pad_sequence([row.float() for row in states], batch_first=True), _mask([*map(len, states)])
        count = self.tokens if document else 0
        if count:
            hidden = torch.cat([hidden[:, :count] + self.learned, hidden[:, count:]], 1)
        with torch.autocast("cpu", torch.bfloat16):
            for layer in self.model.encoder.layer[self.split :]:
                hidden = layer(hidden, _additive(mask))
        if count:
            hidden, mask = hidden[:, :count], mask[:, :count]
        return normalize(hidden.float(), dim=2), mask

    def vectors(self, states: Mapping[str, Tensor], *, document: bool) -> Vectors:
        """What is compared of each text, from its states below the trained layers."""
        found: dict[str, Any] = {}
        order = sorted(states, key=lambda own: len(states[own]))
        for at in range(0, len(order), BATCH):
            names = order[at : at + BATCH]
            with torch.no_grad():
                rows, mask = self.above([states[own] for own in names], document=document)
            found |= {own: row[kept].numpy() for own, row, kept in zip(names, rows, mask, strict=True)}
        return {own: found[own] for own in states}


def _mask(lengths: Sequence[int]) -> Tensor:
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def _additive(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))[:, None, None].bfloat16()


def maxsim(queries: tuple[Tensor, Tensor], documents: tuple[Tensor, Tensor]) -> Tensor:
    """The mean over a query's tokens of the best cosine with a document's, `[queries, documents]`."""
    cosines = torch.einsum("qnd,bmd->qbnm", queries[0], documents[0])
    best = cosines.masked_fill(~documents[1][None, :, None], -1).amax(3)
    return (best * queries[1][:, None]).sum(2) / queries[1].sum(1)[:, None]


class Trainer:
    """One of the two trainings.

    Args:
        reader: trained.
        pairs: queries and their documents, the last `DEV` of which measure.
        near: of each pair the pairs with the nearest documents, itself first.
        seed: of the batches.
    """

    def __init__(self, reader: Reader, pairs: Sequence[tuple[str, str]], near: Any, seed: int) -> None:
        self.reader, self.near, self.random = reader, near, np.random.default_rng(seed)
        self.sizes: Sequence[int | None] = [keep for keep in KEEP if keep <= reader.tokens] or [None]
        self.asked = reader.below([query for query, _ in pairs], SHORT, document=False)
        self.read = reader.below([text for _, text in pairs], SHORT, document=True)

    def train(self, steps: int, every: int) -> None:
        """Train, and print the held-out measure every so many steps."""
        reader = self.reader
        layers = [own for name, own in reader.named_parameters() if own.requires_grad and name != "learned"]
        groups = [{"params": layers, "lr": RATE}, {"params": [reader.learned], "lr": RATE_OF_TOKENS}]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        schedule = warmed_up(optimizer, steps)
        losses: list[float] = []
        begun = process_time()
        for step in range(steps + 1):
            if step % every == 0 or step == steps:
                spent, loss = process_time() - begun, np.mean(losses[-every:] or [0])
                print(f"  step {step}, {spent:.0f} s, loss {loss:.3f}, held out {self.held_out()}", flush=True)
            if step < steps:
                own = self.loss(self._batch())
                optimizer.zero_grad()
                own.backward()
                optimizer.step()
                schedule.step()
                losses.append(float(own.detach()))

    def loss(self, rows: Sequence[int]) -> Tensor:
        """Each query's own document against the others, at each number of vectors."""
        queries = self.reader.above([self.asked[row] for row in rows], document=False)
        states, mask = self.reader.above([self.read[row] for row in rows], document=True)
        right = torch.arange(len(rows))
        scores = (SCALE * maxsim(queries, (states[:, :size], mask[:, :size])) for size in self.sizes)
        return torch.stack([torch.nn.functional.cross_entropy(own, right) for own in scores]).mean()

    def _batch(self) -> list[int]:
        begins = self.random.integers(len(self.near), size=4 * BATCH)
        return [*dict.fromkeys(int(own) for begin in begins for own in self.near[begin])][:BATCH]

    @torch.no_grad()
    def held_out(self) -> str:
        """The mean reciprocal rank of a held-out query's document among `POOL`, at each number of vectors."""
        rows = range(max(0, len(self.read) - POOL), len(self.read))
        parts = [
            self.reader.above([self.read[own] for own in rows[at : at + 50]], document=True)
            for at in range(0, len(rows), 50)
        ]
        asked = self.reader.above(self.asked[-DEV:], document=False)
        shown = []
        for size in self.sizes:
            scores = torch.cat([maxsim(asked, (states[:, :size], mask[:, :size])) for states, mask in parts], 1)
            right = scores[torch.arange(DEV), len(rows) - DEV + torch.arange(DEV)]
            ranks = 1 + (scores > right[:, None]).sum(1)
            shown.append(f"{size or 'all'}: {(1 / ranks).mean():.3f}")
        return ", ".join(shown)


def pairs_of(folder: Path, without: set[str], count: int, seed: int) -> list[tuple[str, str]]:
    """Training pairs, then `DEV` of the development set, none of whose documents or texts are those of the test."""
    documents, queries = read_documents(folder), {own.id: own.text for own in read_queries(folder / "queries.jsonl.gz")}
    found: list[tuple[str, str]] = []
    seen = {*without}
    for split, most in (("train", count), ("dev", DEV)):
        judged = sorted(Qrels.read(folder / f"qrels/{split}.tsv").judgements.items())
        rows = [judged[place] for place in np.random.default_rng(seed).permutation(len(judged))]
        kept = 0
        for query, grades in rows:
            (name, *_), text = grades, queries[query]
            own = f"{documents[name].title} {documents[name].text}".strip() if name in documents else ""
            if own and kept < most and not seen & {name, text, own, own[:100]}:
                found.append((text, own))
                seen |= {text, own, own[:100]}
                kept += 1
    return found


def nearest(reader: Reader, texts: Sequence[str]) -> Any:
    """Of each text the places of the nearest by the mean of MiniLM's token vectors, itself first, `[n, NEAR]`."""
    states = reader.below(texts, SHORT, document=False)
    rows = reader.vectors({str(place): own for place, own in enumerate(states)}, document=False).values()
    vectors = normalize(torch.stack([torch.from_numpy(own.mean(0)) for own in rows]), dim=1)
    return (vectors @ vectors.T).fill_diagonal_(2).topk(NEAR, 1).indices.numpy()


def candidates(folder: Path | None, documents: Any, queries: Any) -> dict[str, list[str]]:
    """Those of the first stage, kept in a folder."""
    path = folder and folder / "candidates.json"
    if path and path.is_file():
        return dict(json.loads(path.read_text()))
    found = candidates_of(documents, queries)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found))
    return found


def randomly(vectors: Vectors, keep: int) -> Vectors:
    """So many of each document's vectors."""
    chance = np.random.default_rng(0)
    return {own: rows[np.sort(chance.permutation(len(rows))[:keep])] for own, rows in vectors.items()}


def versions(documents: Vectors, tokens: int) -> Iterator[tuple[str, Vectors]]:
    """The vectors by each way to have fewer of them."""
    if tokens:
        yield from ((f"learned {keep}", {own: rows[:keep] for own, rows in documents.items()}) for keep in KEEP)
        return
    yield "all", documents
    ways: dict[str, Callable[[Vectors, int], Vectors]] = {"ward": reduced_all, "random": randomly}
    for keep in KEEP:
        yield from ((f"{name} {keep}", way(documents, keep)) for name, way in ways.items())


def main() -> None:
    """Train both, and print all rows before and after."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pairs", type=int, default=4000)
    parser.add_argument("--layers", type=int, default=2, help="that are trained")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--untrained", action="store_true", help="measure before the training as well")
    parser.add_argument("--kept", type=Path, help="a folder for the candidates")
    options = parser.parse_args()
    documents = read_documents(DEBIAN)
    queries, qrels = read_queries(DEBIAN / "queries.jsonl.gz"), Qrels.read(DEBIAN / "qrels/test.tsv")
    found = candidates(options.kept, documents, queries)
    texts = {own: " ".join(filter(None, (document.title, document.text))) for own, document in documents.items()}
    asked = {query.id: query.text for query in queries}
    test = {*texts, *texts.values(), *(text[:100] for text in texts.values()), *asked.values()}
    pairs = pairs_of(folder_of("debian-synopsis"), test, options.pairs, options.seed)
    print(f"{len(pairs) - DEV:,} pairs, {options.steps} steps of {BATCH}", flush=True)
    near = nearest(Reader(0, options.layers), [text for _, text in pairs[:-DEV]])
    whole, measured = None, {}
    for tokens in (0, KEEP[0]):
        torch.manual_seed(options.seed)
        reader = Reader(tokens, options.layers)
        trainer = Trainer(reader, pairs, near, options.seed)
        below = {
            own: reader.below([*given.values()], LONG, document=own) for own, given in ((False, asked), (True, texts))
        }
        for trained in (False, True) if options.untrained else (True,):
            if trained:
                trainer.train(options.steps, max(1, options.steps // 4))
            by_query = reader.vectors(dict(zip(asked, below[False], strict=True)), document=False)
            rows = reader.vectors(dict(zip(texts, below[True], strict=True)), document=True)
            for name, vectors in versions(rows, tokens):
                own = evaluate(ranked(name, found, by_query, vectors), qrels, (METRIC,))
                whole = own if name == "all" else whole
                assert whole is not None
                measured[name] = own
                show(f"{'trained' if trained else 'untrained'} {name}", vectors, own, whole)
    print("\nlearned tokens minus ward, both trained")
    for keep in KEEP:
        (gap,) = compare([measured[f"ward {keep}"], measured[f"learned {keep}"]], f"ward {keep}", METRIC).differences
        print(f"{keep}: {gap.mean:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]")


if __name__ == "__main__":
    main()
