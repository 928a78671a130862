"""`Answers`: asks slots and rerankers once for judged queries, and stores their answers in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from diptych.config.models import SearchParams
from diptych.config.stages import Rerank
from diptych.evaluate.ask import BATCH, ask
from diptych.handle.snapshot import View
from diptych.metadata.payloads import from_payload, id_filter
from diptych.plugins.anchor_scores import reranker_space
from diptych.protocols import Fingerprint, Pair, Reranker
from diptych.runtime.phases import Progress
from diptych.search.pipeline import Pipeline, Retrieve, search_params
from diptych.search.qdrant.store_calls import scrolled
from diptych.search.rerank import score_pairs
from diptych.types import Floats, Hit, Query, said
from diptych_lab.tune.search_report import params_text
from diptych_lab.tune.slot_candidates import Doubles, Legs, pools_of

PAGE = 256
T = TypeVar("T")
Rankings = list[list[tuple[str, float]]]


def asking(slot: str, params: SearchParams) -> str:
    """The stage of the progress in which a slot is asked with these parameters."""
    text = params_text(search_params(params))
    return f"asking {slot} ({text})" if text else f"asking {slot}"


def rescoring(slot: str) -> str:
    """The stage of the progress in which a slot scores the candidates of the others."""
    return f"rescoring by {slot}"


class OnceScored:
    """A reranker that scores each pair of query and document once, and answers from memory after that.

    Args:
        reranker: an `independent` one, since scores that depend on the other candidates cannot be kept.
        space: of the reranker, by which its anchors are known; see `reranker_space`.

    `pairs` counts the pairs that the reranker scored, `asked` all that it was asked for.
    """

    independent = True

    def __init__(self, reranker: Reranker, space: str) -> None:
        self._reranker, self.max_length = reranker, reranker.max_length
        self.fingerprint = Fingerprint(space)
        self.scores: dict[Pair, float] = {}
        self.pairs = self.asked = 0

    @classmethod
    def of(cls, stage: Rerank, reranker: Reranker) -> OnceScored:
        """The reranker of a stage, which keeps its anchors."""
        return cls(reranker, reranker_space(reranker, stage.label, stage.options))

    def predict(self, pairs: Sequence[Pair]) -> Floats:
        """Scores float32 `[n]` in the order of `pairs`."""
        self.asked += len(pairs)
        unknown = list(dict.fromkeys(pair for pair in pairs if pair not in self.scores))
        if unknown:
            (scores,) = score_pairs(self._reranker, [unknown], where=f"reranker {type(self._reranker).__name__!r}")
            self.scores |= zip(unknown, scores.tolist(), strict=True)
            self.pairs += len(unknown)
        return np.array([self.scores[pair] for pair in pairs], np.float32)


class Answers:
    """Asks slots and rerankers in batches, and stores each complete part of the answers in the folder.

    Args:
        view: the collection, which is only read.
        queries: the judged queries.
        depth: candidates of each slot.
        folder: stores the answers; None stores nothing.
        progress: receives the progress of each slot and reranker.

    `calls` counts the requests to the store.
    """

    def __init__(
        self, view: View, queries: Sequence[Query], depth: int, folder: Path | None, progress: Progress
    ) -> None:
        self._view, self._queries, self._depth = view, queries, depth
        self._folder, self._progress, self.calls = folder, progress, 0

    def ask(self, pipeline: Pipeline, depth: int, stage: str) -> list[Sequence[Hit]]:
        """The hits of each query; `stage` is that of the progress."""
        self._progress.begin(stage, len(self._queries))

        def advance(queries: int) -> None:
            self.calls += 1
            self._progress.advance(stage, queries)

        return ask(self._view, self._queries, depth=depth, pipeline=pipeline, advance=advance)

    def candidates(self, slot: str, params: SearchParams) -> Rankings:
        """The first `depth` documents of each query with their scores, found with these parameters."""
        stages = Pipeline((Retrieve(slot, self._depth, params=search_params(params)),))
        label = asking(slot, params)

        def retrieve() -> Rankings:
            hits = self.ask(stages, self._depth, label)
            return [[(hit.id, hit.score) for hit in query_hits] for query_hits in hits]

        return self._once(f"{slot} {params.model_dump_json(exclude_defaults=True)}", retrieve)

    def scores(self, slot: str, legs: Legs, rankings: Mapping[str, Rankings]) -> Doubles:
        """The scores `[n, width]` that the slot gives all candidates of each query; NaN where it has none."""

        def rescore() -> Rankings:
            self._progress.begin(rescoring(slot), len(self._queries))
            scored: Rankings = []
            for query, ids in zip(self._queries, pools_of(rankings), strict=True):
                scored.append(self._scored(slot, query, [str(name) for name in ids]) if ids else [])
                self.calls += 1
                self._progress.advance(rescoring(slot), 1)
            return scored

        return _table(self._once(f"{slot}, all candidates", rescore), legs, rankings)

    def reranker_scores(
        self,
        reranker: OnceScored,
        name: str,
        chosen: np.ndarray,
        legs: Legs,
        rankings: Mapping[str, Rankings],
        *,
        stage: str,
    ) -> Doubles:
        """The reranker's scores `[n, width]` of the chosen candidates; NaN of the others.

        Args:
            reranker: keeps what it scored.
            name: names the reranker and its options, for stored answers.
            chosen: `[n, width]`, whether a candidate is to be scored.
            legs, rankings: the candidates.
            stage: of the progress.
        """
        pools = [[str(name) for name in ids] for ids in pools_of(rankings)]
        chosen_ids = [
            [ids[place] for place in np.flatnonzero(row[: len(ids)])] for ids, row in zip(pools, chosen, strict=True)
        ]
        texts = self._texts({identifier for ids in chosen_ids for identifier in ids})
        scored, label = [], name.partition(" ")[0]
        self._progress.begin(stage, len(self._queries))
        for places in _blocks(range(len(self._queries)), BATCH):
            groups = [[(self._queries[n].text, texts[i]) for i in chosen_ids[n] if i in texts] for n in places]

            def predict(groups: list[list[Pair]] = groups, places: Sequence[int] = places) -> Rankings:
                scores = score_pairs(reranker, groups, where=f"reranker {label!r}")
                ids = ([i for i in chosen_ids[n] if i in texts] for n in places)
                return [list(zip(names, row.tolist(), strict=True)) for names, row in zip(ids, scores, strict=True)]

            part = self._once(f"{name}, {[chosen_ids[n] for n in places]}", predict)
            reranker.scores |= {
                (self._queries[n].text, texts[i]): score
                for n, row in zip(places, part, strict=True)
                for i, score in row
            }
            scored += part
            self._progress.advance(stage, len(places))
        return _table(scored, legs, rankings)

    def _texts(self, ids: Iterable[str]) -> dict[str, str]:
        """The texts of these documents that rerankers read, by id."""
        view, texts = self._view, dict[str, str]()
        for page in _blocks(sorted(ids), PAGE):
            for records in scrolled(view, id_filter(page, view.layout), PAGE):
                self.calls += 1
                for record in records:
                    document = from_payload(record.id, record.payload, view.layout)
                    texts[document.id] = view.reading.of(document.title, document.text)
        return texts

    def _scored(self, slot: str, query: Query, ids: Sequence[str]) -> list[tuple[str, float]]:
        chosen = id_filter(ids, self._view.layout)
        (hits,) = ask(self._view, [query], depth=len(ids), pipeline=Pipeline((Retrieve(slot),)), filter=chosen)
        return [(hit.id, hit.score) for hit in hits]

    def _once(self, what: str, compute: Callable[[], Rankings]) -> Rankings:
        path = self._path(what)
        if path is not None and path.is_file():
            cached: Rankings = [
                [(name, score) for name, score in ranking] for ranking in json.loads(path.read_text("utf-8"))
            ]
            return cached
        rankings = compute()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part")
            temporary.write_text(json.dumps(rankings), "utf-8")
            temporary.replace(path)
        return rankings

    def _path(self, what: str) -> Path | None:
        """A file named after everything that the answers depend on."""
        if self._folder is None:
            return None
        live = self._view.metadata.live.model_dump_json() if self._view.metadata else ""
        count = self._view.client.count(self._view.name, exact=True).count
        query_texts = [(query.id, said(query)) for query in self._queries]
        key = json.dumps([what, live, count, self._depth, query_texts], sort_keys=True)
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


def _blocks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _table(scored: Rankings, legs: Legs, rankings: Mapping[str, Rankings]) -> Doubles:
    """`[n, width]` from each query's documents with their scores; NaN for the others."""
    table = np.full(legs.gains.shape, np.nan)
    for n, (ranking, ids) in enumerate(zip(scored, pools_of(rankings), strict=True)):
        score_by_id = dict(ranking)
        table[n, : len(ids)] = [score_by_id.get(str(name), np.nan) for name in ids]
    return table
