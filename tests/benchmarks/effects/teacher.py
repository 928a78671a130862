"""The teacher of `ar2` and `distill`: a cross-encoder for H-deb, and its scores, made once and stored.

all-MiniLM-L6-v2 with a new head learns from 5,000 further synopses of the training split, each with its description and
three of the 30 others that MiniLM itself finds nearest. Then it scores what a student finds that was trained for 200
steps by InfoNCE on a tuning seed: for a training query 15 documents, beside the relevant ones, and for a test query the
best 20. The scores are kept in the folder for temporary files.

    told = stored()
    told.judged(queries, documents)      # logits [n, m]
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from corpora import read_texts
from diptych_adapters.models import resolve
from diptych_adapters.pipelines.library import quiet
from diptych_training.losses import ContrastiveLoss
from effects.deb import LONG, POOL, SHORT, TEACHER, Real, data_of, deb, nearest, questions, teacher_vectors, train
from effects.running import TUNING
from effects.scoring import Doubles, ndcg
from effects.tiny import Encoder, scores
from effects.uni_encoder import Row, trained
from effects.world import Numbers

WARM, TAU, BETTER = 200, 0.05, 0.03  # the last: how far the teacher has to be above a student, in nDCG@10
UNLIKE, BEST = 15, 20  # scored documents of a training query, beside the relevant ones, and of a test query
OTHERS, BESIDE, ROWS, RATE = 5000, 3, 16, 5e-5  # of the teacher's training: queries; negatives and rows of a step


@dataclass(frozen=True, slots=True)
class Stored:
    """What the teacher said.

    `pool` are documents of each training query that are not relevant, `[queries, UNLIKE]`, `near` the best of each test
    query `tests`, `[tests, BEST]`, and `said` the logits of these pairs, `[queries, documents]`, NaN elsewhere.
    """

    tests: Numbers
    pool: Tensor
    near: Tensor
    said: Tensor

    def judged(self, queries: Tensor, documents: Tensor) -> Tensor:
        """The logits of queries `[n]` with documents of their own, `[n, m]`."""
        found = self.said[queries[:, None], documents]
        assert not found.isnan().any(), "a pair that the teacher has not scored"
        return found

    def ordered(self, world: Real, found: Doubles) -> tuple[Doubles, Doubles]:
        """nDCG@10 of the best of each test query that has a relevant one there: by the teacher, and by such scores."""
        near = self.near.numpy()
        there = np.take_along_axis(world.relevant[world.test], near, 1)
        own, some = np.take_along_axis(found, near, 1), there.any(1)
        said = self.judged(torch.from_numpy(world.test), self.near).double().numpy()
        return ndcg(said[some], there[some]), ndcg(own[some], there[some])


@lru_cache(maxsize=8)
def warm(seed: int) -> Encoder:
    """A student that knows the training pairs a little; the same for the same seed."""
    world = deb(seed)
    loss = ContrastiveLoss(None, tau=TAU, relevance=world.relevance())
    return train(world, world.rows(), loss, seed=seed, steps=WARM)


@lru_cache(maxsize=1)
def stored() -> Stored:
    """The scores of H-deb; some 100,000 pairs are scored the first time."""
    tuning, tested, model = deb(TUNING[0]), deb(0), warm(TUNING[0])
    asked = np.arange(min(tuning.test.min(), tested.test.min()))
    pool = nearest(tuning, model, torch.from_numpy(asked), UNLIKE)
    near = torch.from_numpy(np.argsort(-scores(model, tested), axis=1, kind="stable")[:, :BEST].copy())
    pairs = [tuning.rows(asked)]
    for queries, own in ((asked, pool), (tested.test, near)):
        pairs.append(torch.stack([torch.from_numpy(queries).repeat_interleave(own.shape[1]), own.reshape(-1)], 1))
    joined = torch.cat(pairs)
    said = torch.full(tuning.relevant.shape, torch.nan)
    said[joined[:, 0], joined[:, 1]] = scored(tuning, joined)
    return Stored(tested.test, pool, near, said)


def scored(world: Real, pairs: Tensor) -> Tensor:
    """The teacher's logits of pairs `(query, document)`, `[n, 2]`, made once for the same pairs."""
    file = _kept("scores", pairs.numpy().tobytes())
    if not file.exists():
        print(f"   the teacher scores {len(pairs):,} pairs", flush=True)
        texts = [(world.queries[query], world.documents[document]) for query, document in pairs.tolist()]
        model = taught()
        with torch.autocast("cpu", torch.bfloat16):
            found = model.predict(texts, batch_size=64, show_progress_bar=False, convert_to_tensor=True)
        save_file({"scores": found.float()}, file)
    return load_file(file)["scores"]


def taught() -> Any:
    """The cross-encoder after its training, which happens once."""
    from sentence_transformers import CrossEncoder

    torch.manual_seed(0)
    with quiet():
        none = {"attention_probs_dropout_prob": 0.0}
        path, more = str(resolve(TEACHER).path), {"max_length": SHORT + LONG, "config_kwargs": none}
        model = CrossEncoder(path, num_labels=1, device="cpu", activation_fn=torch.nn.Identity(), **more)
    file = _kept("teacher", repr((OTHERS, BESIDE, ROWS, RATE)).encode())
    if file.exists():
        model.load_state_dict(load_file(file))
        return model.eval()
    rows = others()
    print(f"   the teacher learns from {len(rows):,} rows", flush=True)
    model = trained(model, rows, steps=len(rows) // ROWS, size=ROWS, rate=RATE, bfloat16=True)
    save_file(model.state_dict(), file)
    return model


def others() -> list[Row]:
    """Rows of queries that H-deb has not: the first relevant document, and some of the others nearest by MiniLM."""
    texts, name, random = read_texts(data_of("debian-synopsis")), "debian-synopsis", np.random.default_rng(84)
    asked = questions(name, texts, "train")[len(deb(0).queries) :][:OTHERS]
    documents = list(dict.fromkeys(document for _, own in asked for document in own))
    queries = teacher_vectors([text for text, _ in asked], SHORT)
    found = (queries @ teacher_vectors([texts[one] for one in documents], LONG).T).numpy()
    rows: list[Row] = []
    for (text, own), similar in zip(asked, found, strict=True):
        best = [documents[place] for place in np.argsort(-similar)[: POOL + len(own)]]
        unlike = random.permutation([one for one in best if one not in own][:POOL])[:BESIDE]
        rows.append((text, [texts[one] for one in (own[0], *unlike)]))
    return [rows[place] for place in random.permutation(len(rows))]


def _kept(what: str, of: bytes) -> Path:
    return Path(tempfile.gettempdir()) / f"diptych-effects-{what}-{hashlib.sha256(of).hexdigest()[:16]}.safetensors"
