"""`tune_encoder`: which encoders, width and storage answer judged queries best within a budget."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from diptych.config import SlotConfig, VectorStorage
from diptych.display import Display, Displayed, Table
from diptych.errors import AdapterOptionsError, TuneError
from diptych.evaluate import Qrels, times
from diptych.factory import validate_options
from diptych.protocols import TEACHER_FILE, Similarity
from diptych.runtime.phases import Progress, Unwatched
from diptych.search import CollectionHandle, View
from diptych.search.request import with_media_read
from diptych.search.retrieve import given_by
from diptych.search.store_calls import scrolled
from diptych.slots.encode import Input
from diptych.slots.slot import Slot, vectors_of_queries
from diptych.swap import sample_points
from diptych.types import Floats, Query
from diptych_lab.tune.index import Scratch, Setup, bytes_read, of_bits, slot_to_tune
from diptych_lab.tune.sample import Sample, blocks, require_dense, unit, with_vectors
from diptych_lab.tune.trials import (
    CONFIDENCE,
    LEAST,
    LEGEND,
    PRESENT,
    ROUNDS,
    Against,
    Doubles,
    Legs,
    against,
    folds,
    mark,
    with_front,
)

CUTOFF, TIMED, BATCH, PAGE = 10, 20, 64, 256
QUERIES, DOCUMENTS = 200, 2000  # at most; of documents beside those that are relevant
SHOWN = 16  # rows of a table beside the present and the chosen one
SHORTEST = 32  # numbers that are kept at least, unless others are asked for
UNRELATED = 0.5  # share of the best nDCG below which two encoders are taken to be of different spaces
Found: TypeAlias = list[list[tuple[str, float]]]  # for each query the first documents, by their place in the sample

NOW = "now"  # the name of the encoder that serves


def tune_encoder(
    handle: CollectionHandle | View,
    queries: Sequence[Query],
    qrels: Qrels,
    *,
    slot: str | None = None,
    others: Sequence[EncoderChoice] = (),
    widths: Sequence[int] = (),
    setups: Sequence[Setup] | None = None,
    budget: EncoderBudget | None = None,
    progress: Progress | None = None,
) -> EncoderReport:
    """Try encoders of documents and of queries, leading numbers of their vectors, and ways to store these.

    The present encoder and `others` are tried. Documents and queries may have different encoders; pairs that do not
    share a space are left out. Stored vectors are read; other encoders encode the sampled documents. The collection is
    only read; ways to store vectors are tried with the sample in a temporary folder.

    At most 2,000 documents are sampled beside those that are relevant to a query, and 200 queries.

    The row with the highest nDCG@10 within the budget is chosen; among equals the cheapest, by the time to encode,
    then by bytes.

    Args:
        handle: the open collection.
        queries, qrels: with judgements; queries without a relevant document are left out.
        slot: a dense one; the only one unless given.
        others: further encoders; see `choices_of`.
        widths: leading numbers to keep; all, a half and a quarter unless given.
        setups: ways to store and search, beside the present one; `of_bits` unless given.
        budget: limits of a query and of a vector.
        progress: receives the progress.

    Raises:
        TuneError: no judged query, or a slot without plain dense vectors.
        CollectionNotFound: nothing has been populated yet.
    """
    started, view, limits = time.perf_counter(), handle.now(), budget or EncoderBudget()
    tuned = slot_to_tune(view, slot)
    require_dense(tuned)
    if view.tenancy is not None:
        raise TuneError("this encoder cannot be tuned", where=tuned.where, got="a collection with tenants")
    asked = [query for query in queries if qrels.relevant(query.id)]
    if len(asked) > QUERIES:
        places = np.random.default_rng(0).permutation(len(asked))[:QUERIES]
        asked = [asked[place] for place in sorted(places.tolist())]
    if not asked:
        raise TuneError("no query has a relevant document", where=f"collection {view.name!r}", got=len(queries))
    trials = EncoderTrials(view, tuned, others, asked, qrels, progress or Unwatched())
    rows, table = trials.measured(widths, of_bits() if setups is None else setups)
    present = len(rows) - 1
    fitting = [n for n, row in enumerate(rows) if limits.fits(row)]
    # The present row comes first among equally cheap ones; without any that fits, the nearest to the budget is named.
    keys = [(row.encoding, row.size, n != present, row.milliseconds) for n, row in enumerate(rows)]
    order = np.array(sorted(fitting, key=keys.__getitem__), np.int64)
    nearest = min(range(len(rows)), key=lambda n: (limits.share(rows[n]), -rows[n].value, keys[n]))
    chosen = _best(table, order) if fitting else nearest
    gain = None
    if fitting and chosen != present and len(asked) >= LEAST:
        held_out = np.zeros(table.shape[1])  # for each query the value of what the other queries choose
        for training, part in folds(len(held_out)):
            held_out[part] += table[_best(table[:, training], order), part] / ROUNDS
        gain = against(PRESENT, held_out - table[present])
    return EncoderReport(
        collection=view.name,
        slot=tuned.name,
        queries=len(asked),
        sample=len(trials.ids),
        documents=view.client.count(view.name, exact=True).count,
        choices=trials.choices,
        rows=tuple(with_front(rows, lambda row: (-row.value, row.milliseconds, row.size))),
        present=present,
        chosen=chosen,
        gain=gain,
        fits=limits.fits(rows[present]),
        reached=bool(fitting),
        passed=gain is not None and (gain.low > 0 or not limits.fits(rows[present])),
        left_out=tuple(trials.left_out),
        seconds=time.perf_counter() - started,
    )


def _best(table: Doubles, order: Any) -> int:
    """The row of the highest mean; of equal ones the first in `order`."""
    return int(order[table[order].mean(axis=1).round(9).argmax()])


def choices_of(slot: Slot, folders: Iterable[str] = ()) -> list[EncoderChoice]:
    """Encoders to try: the exits of the slot's own model, and those of folders, `ADAPTER=FOLDER` for another adapter.

    A folder with `exits.json` brings its exits; one that was trained as a student makes queries alone. A folder without
    `ADAPTER=` is served by the adapter that its training names, else by the slot's.

    Raises:
        TuneError: a folder that is not there, or a list of exits that cannot be read.
    """
    found = _exits(slot.config.adapter, slot.config.options)
    for given in folders:
        adapter, _, folder = given.rpartition("=")
        if not Path(folder).is_dir():
            raise TuneError("there is no such model folder", where="--with", got=given, expected="[ADAPTER=]FOLDER")
        if not adapter:  # the one that the report of its training names
            with suppress(OSError, ValueError, TypeError, LookupError):  # the report of another program, or none
                report = json.loads((Path(folder) / "report.json").read_text("utf-8"))
                adapter = str(report["models"][0]["adapter"])
        adapter = adapter or slot.config.adapter
        own = slot.config.options if adapter == slot.config.adapter else {}
        choice = EncoderChoice(Path(folder).name, adapter, {**own, "model": folder})
        found.append(replace(choice, documents=not (Path(folder) / TEACHER_FILE).is_file()))
        found += _exits(choice.adapter, choice.options)
    names = [NOW, *(choice.name for choice in found)]
    return [
        choice if names.count(choice.name) == 1 else replace(choice, name=str(choice.options["model"]))
        for choice in {str(choice.options["model"]): choice for choice in found}.values()
    ]


def _exits(adapter: str, options: Mapping[str, Any]) -> list[EncoderChoice]:
    """The exits of a model without the deepest, which is the folder's own model."""
    folder = Path(str(options.get("model", "")))
    if not (listing := folder / "exits.json").is_file():
        return []
    try:
        names = [str(entry["folder"]) for entry in json.loads(listing.read_text("utf-8"))]
    except (OSError, ValueError, TypeError, KeyError) as error:
        got, expected = f"{type(error).__name__}: {error}", '[{"folder": "exit_2", ...}], as training writes it'
        raise TuneError("the list of exits cannot be read", where=listing, got=got, expected=expected) from error
    inner = [name for name in names if name not in ("", ".")]
    return [EncoderChoice(name, adapter, {**options, "model": str(folder / name)}) for name in inner]


@dataclass(frozen=True, slots=True)
class EncoderChoice:
    """An encoder that is tried.

    Args:
        name: in tables.
        adapter, options: as a slot of the config names them.
        documents: whether it may encode documents; a student encodes queries only.
    """

    name: str
    adapter: str
    options: Mapping[str, Any] = field(default_factory=dict)
    documents: bool = True


@dataclass(frozen=True, slots=True)
class EncoderRow:
    """One combination that was tried.

    Args:
        documents, queries: names of the encoders of each side.
        width: leading numbers of a vector that are kept; `cut` says whether these are not all.
        setup: how the vectors are stored and searched.
        value: mean nDCG@10; `error` is its standard error.
        overlap: mean share of the present first ten, by exact search, that it finds.
        milliseconds: median time to encode a query and to search; `encoding` is the first part.
        size: bytes of the numbers of a vector that a search reads; originals of quantized ones are extra, on disk.
        front: whether no row is at least as good in value, time and bytes, and better in one of them.
    """

    documents: str
    queries: str
    width: int
    cut: bool
    setup: Setup
    value: float
    error: float
    overlap: float
    milliseconds: float
    encoding: float
    size: int
    front: bool = False

    @property
    def name(self) -> str:
        """Encoders, width and storage in a few words."""
        encoders = self.queries if self.queries == self.documents else f"{self.queries} over {self.documents}"
        asked = "" if self.setup.asked == "default" else f", {self.setup.asked}"
        return f"{encoders}, {self.width} numbers, {self.setup.stored}{asked}"


@dataclass(frozen=True, slots=True)
class EncoderBudget:
    """The limits of a query and of a vector.

    Args:
        milliseconds: longest median time to encode a query and search.
        size: most bytes of a vector that a search reads.
    """

    milliseconds: float | None = None
    size: int | None = None

    def fits(self, row: EncoderRow) -> bool:
        """Whether the row is fast and small enough."""
        return self.share(row) <= 1

    def share(self, row: EncoderRow) -> float:
        """How much of the budget the row takes, by the limit that it is nearest to or exceeds most; 0 without one."""
        limited = ((row.milliseconds, self.milliseconds), (row.size, self.size))
        return max((cost / limit if limit else math.inf for cost, limit in limited if limit is not None), default=0.0)


@dataclass(frozen=True, slots=True)
class EncoderReport(Displayed):
    """What `tune_encoder` found.

    Args:
        collection, slot: whose vectors.
        queries: judged ones that were asked.
        sample, documents: documents that were searched, and that the collection holds.
        choices: the encoders by name, the present one first.
        rows: one for each way; the last is the present one.
        present, chosen: places of the present row and of the chosen one.
        gain: of the choice over the present row, on queries that did not choose; None if there are too few.
        fits: whether the present row is within the budget; `reached`: whether any row is.
        passed: whether the choice should replace the present row.
        left_out: pairs of encoders, the documents' first, that do not share a space.
        seconds: how long it took.
    """

    collection: str
    slot: str
    queries: int
    sample: int
    documents: int
    choices: Mapping[str, EncoderChoice]
    rows: tuple[EncoderRow, ...]
    present: int
    chosen: int
    gain: Against | None
    fits: bool
    reached: bool
    passed: bool
    left_out: tuple[tuple[str, str], ...]
    seconds: float

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        chosen = self.rows[self.chosen]
        if not self.reached:
            costs = f"{chosen.milliseconds:.2f} ms and {chosen.size} bytes"
            return f"nothing is within the budget; the nearest to it is {chosen.name}, {costs}"
        if self.queries < LEAST:
            return f"{self.queries} judged queries are too few to choose by: at least {LEAST} are needed"
        if self.chosen == self.present or self.gain is None:
            return "the present way is the best within the budget: it stays"
        interval = f"{CONFIDENCE:.0%} interval [{self.gain.low:+z.4f}, {self.gain.high:+z.4f}]"
        figures = f"{chosen.name}: nDCG@10 {self.gain.mean:+z.4f} on held-out queries, {interval}"
        if not self.fits:
            return f"{figures}; it is the best within the budget, which the present way exceeds"
        if self.passed:
            return f"{figures}; it is better than the present way"
        return f"{figures}; it is not shown to be better, so the present way stays unless it is to cost less"

    def display(self) -> Display:
        """The verdict, the gain, the best of the front, and what encoders find of one another's documents."""
        rows = self.rows
        front = sorted((n for n, row in enumerate(rows) if row.front), key=lambda n: -rows[n].value)
        shown = {*front[:SHOWN], self.present, self.chosen}
        listed = [
            (
                mark(front=row.front, chosen=n == self.chosen, present=n == self.present),
                *(row.documents, row.queries, str(row.width), row.setup.stored, row.setup.asked),
                *(
                    f"{row.value:.4f}",
                    f"{row.error:.4f}",
                    f"{row.overlap:.3f}",
                    f"{row.milliseconds:.2f}",
                    f"{row.size:,}",
                ),
            )
            for n, row in sorted(enumerate(rows), key=lambda pair: (-pair[1].value, pair[0]))
            if n in shown
        ]
        columns = ("", "documents", "queries", "numbers", "stored", "search", "nDCG@10", "±", "first 10", "ms", "bytes")
        over = f"over {self.sample:,} of {self.documents:,} documents"
        apart = [f"{queries} over {documents} is left out: they share no space" for documents, queries in self.left_out]
        return Display(
            self.verdict,
            [
                f"{self.collection}, slot {self.slot}: {len(rows)} ways tried on {self.queries} queries, {over}",
                Table(columns, listed, numbers=(3, *range(6, 11))),
                f"{LEGEND}; first 10: share of the present encoder's own",
                *apart,
                f"{self.seconds:.1f} s",
            ],
            mood="good" if self.passed else "neutral",
        )


class _Way(NamedTuple):
    """A width and a way to store, for one encoder of documents and one of queries, and what was found with it."""

    queries: str
    setup: Setup
    found: Found
    milliseconds: float = 0.0


class EncoderTrials:
    """Runs judged queries over a sample of the documents, encoded by each encoder in turn.

    Args:
        view, slot: whose encoder is the present one.
        others: further encoders.
        queries, qrels: judged.
        progress: of `encode` and `search`.
    """

    def __init__(
        self,
        view: View,
        slot: Slot,
        others: Sequence[EncoderChoice],
        queries: Sequence[Query],
        qrels: Qrels,
        progress: Progress,
    ) -> None:
        self._view, self._slot, self._progress = view, slot, progress
        self._asked = with_media_read(view, queries)
        self._grades = [qrels.judgements[query.id] for query in queries]
        names = [NOW, *(choice.name for choice in others)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise TuneError("two encoders have one name", where=slot.where, got=twice[0], do="name each differently")
        own = EncoderChoice(NOW, slot.config.adapter, slot.config.options)
        self.choices = {choice.name: choice for choice in (own, *others)}
        registry = view.registry.guarded(None)  # the user names the others
        self._slots = {NOW: slot}
        for choice in others:  # an encoder of documents reads the slot's modality
            of = slot.reading.modality if choice.documents else "text"
            config = SlotConfig(adapter=choice.adapter, of=of, options=dict(choice.options))
            self._slots[choice.name] = Slot(choice.name, config, None, registry, media=view.media)
        relevant = {name for own in self._grades for name, grade in own.items() if grade > 0}
        self.ids, self._documents, self._stored = self._sampled(relevant)
        self.left_out: list[tuple[str, str]] = []

    def measured(self, widths: Sequence[int], setups: Sequence[Setup]) -> tuple[list[EncoderRow], Doubles]:
        """The rows, and the value of each for each query `[rows, n]`; the last is the present one."""
        documents, queries = self._encoded()
        slots, some = [*self._slots.values()], self._asked[:TIMED]
        measured = times(lambda slot, query: vectors_of_queries(slot, [query], 0), slots, some)
        encoding = dict(zip(self._slots, np.median(measured, axis=1).tolist(), strict=True))  # ms of one query
        storage = self._slot.generation.storage if self._slot.generation else {}
        now = Setup(VectorStorage.model_validate(storage), self._view.search_config.params, now=True)
        pairs = self._pairs(documents, queries)
        wanted = [{own for own, _ in found} for found in self._exact(documents[NOW], queries[NOW])]
        rows, values = list[EncoderRow](), list[Doubles]()
        if too_wide := [width for width in widths if width > max(rows.shape[1] for rows in documents.values())]:
            expected = f"at most {max(rows.shape[1] for rows in documents.values())}"
            raise TuneError("no encoder has vectors of this width", where="width", got=too_wide[0], expected=expected)
        cuts = [(name, width) for name in pairs for width in self._widths(name, documents[name].shape[1], widths)]
        self._progress.begin("search", len(cuts))
        for name, width in cuts:
            whole = name == NOW and width == documents[name].shape[1]
            tried = [own for own in setups if not whole or (own.storage, own.params) != (now.storage, now.params)]
            tried += [now] if whole else []
            asked = {own: _cut(queries[own], width, self._similarity) for own in pairs[name]}
            for way in self._searched(_cut(documents[name], width, self._similarity), asked, tried):
                value = self._ndcg(way.found)
                error = float(value.std(ddof=1) / np.sqrt(len(value))) if len(value) > 1 else 0.0
                common = [
                    len({own for own, _ in found} & first) / max(1, len(first))
                    for found, first in zip(way.found, wanted, strict=True)
                ]
                rows.append(
                    EncoderRow(
                        documents=name,
                        queries=way.queries,
                        width=width,
                        cut=width < documents[name].shape[1],
                        setup=way.setup,
                        value=float(value.mean()),
                        error=error,
                        overlap=float(np.mean(common)),
                        milliseconds=encoding[way.queries] + way.milliseconds,
                        encoding=encoding[way.queries],
                        size=bytes_read(way.setup.storage, width),
                    )
                )
                values.append(value)
            self._progress.advance("search", 1)
        present = next(n for n, row in enumerate(rows) if row.setup.now and row.queries == NOW)
        order = [*(n for n in range(len(rows)) if n != present), present]
        return [rows[n] for n in order], np.vstack([values[n] for n in order])

    @property
    def _similarity(self) -> Similarity:
        return self._slot.similarity or "cosine"

    def _sampled(self, relevant: set[str]) -> tuple[list[str], list[Input], Floats]:
        """Ids, texts or media, and stored vectors of the relevant documents that are there and of some others."""
        view, found = self._view, dict[str, tuple[Input, Floats]]()
        points: list[Any] = []
        for page in blocks(sorted(relevant), PAGE):
            for records in scrolled(view, view.layout.id_filter(page), PAGE, payload=False):
                points += [record.id for record in records]
        points = list(dict.fromkeys([*points, *sample_points(view.client, view.name, DOCUMENTS)]))
        for record, vector in with_vectors(view, self._slot, points, payload=True):
            document = view.layout.read(record.id, record.payload)
            found[document.id] = self._slot.reading.input_of(document) or "", vector
        if not found:
            raise TuneError("no document has a vector", where=self._slot.where, do="diptych populate")
        return [*found], [read for read, _ in found.values()], np.stack([vector for _, vector in found.values()])

    def _encoded(self) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """The vectors of documents and of queries by each encoder."""
        others = [name for name, choice in self.choices.items() if name != NOW and choice.documents]
        self._progress.begin("encode", len(others) * len(self._documents) + len(self.choices) * len(self._asked))
        documents = {NOW: self._stored}
        for name in others:
            slot = self._slots[name]
            documents[name] = self._vectors(slot, self._documents, partial(slot.encode, "document"))
        return documents, {
            name: self._vectors(own, self._asked, partial(_of_queries, own)) for name, own in self._slots.items()
        }

    def _vectors(self, slot: Slot, inputs: Sequence[Any], encode: Callable[[Sequence[Any]], Sequence[Any]]) -> Floats:
        if slot.kind != "dense":
            what, do = "this encoder makes no dense vectors", "name encoders that make one vector per text"
            raise TuneError(what, where=f"encoder {slot.name!r}", got=f"kind {slot.kind}", do=do)
        rows: list[Any] = []
        for page in blocks(inputs, BATCH):
            rows += encode(page)
            self._progress.advance("encode", len(page))
        return np.stack(rows).astype(np.float32)

    def _pairs(self, documents: Mapping[str, Floats], queries: Mapping[str, Floats]) -> dict[str, list[str]]:
        """By encoder of documents, the encoders of queries that find something with it, by exact search."""
        values = {
            (name, own): float(self._ndcg(self._exact(rows, asked)).mean())
            for name, rows in documents.items()
            for own, asked in queries.items()
            if rows.shape[1] == asked.shape[1] and (name == NOW or own != NOW or self._slot.query_slot is None)
        }
        least = UNRELATED * max(values.values())
        kept = {pair for pair, value in values.items() if value >= least} | {(NOW, NOW)}
        self.left_out += [pair for pair in values if pair not in kept]
        by_documents = {name: [query for query in queries if (name, query) in kept] for name in documents}
        return {name: own for name, own in by_documents.items() if own}

    def _widths(self, name: str, dimension: int, wanted: Sequence[int]) -> list[int]:
        """The widths to try: those that the encoder's own option can cut to, and all of it."""
        choice = self.choices[name]
        shorter = wanted or [width for width in (dimension // 2, dimension // 4) if width >= SHORTEST]
        try:
            validate_options(self._slots[name].spec, {**choice.options, "truncate_dim": dimension})
        except AdapterOptionsError:
            if wanted and name == NOW:
                what, do = "this adapter cannot cut its vectors", "leave --width out"
                raise TuneError(
                    what, where=self._slot.where, got=f"{choice.adapter} has no truncate_dim", do=do
                ) from None
            shorter = []  # a config could not ask for it
        return sorted({dimension, *(width for width in shorter if width < dimension)}, reverse=True)

    def _searched(self, documents: Floats, queries: Mapping[str, Floats], setups: Sequence[Setup]) -> Iterator[_Way]:
        """What is found in each way, and the median milliseconds of a search."""
        some = next(iter(queries.values()))
        count = self._view.client.count(self._view.name, exact=True).count
        with Scratch(Sample(documents, some, self._similarity, count, False), max(count, len(documents))) as scratch:
            stored = {setup.storage.model_dump_json(): setup.storage for setup in setups}
            built = {key: scratch.build(storage) for key, storage in stored.items()}
            ways = [_Way(own, setup, [[]] * len(some)) for own in queries for setup in setups]

            def ask(way: _Way, number: int) -> None:
                collection = built[way.setup.storage.model_dump_json()]
                way.found[number] = scratch.ask(collection, queries[way.queries][number].tolist(), way.setup, CUTOFF)

            measured = np.median(times(ask, ways, range(len(some))), axis=1)
            for way, milliseconds in zip(ways, measured.tolist(), strict=True):
                yield way._replace(milliseconds=milliseconds)

    def _exact(self, documents: Floats, queries: Floats) -> Found:
        rows, asked = (_cut(own, own.shape[1], self._similarity) for own in (documents, queries))
        run = Sample(rows, asked, self._similarity, len(rows), False).exact(CUTOFF)
        return [list(run.rankings[str(n)]) for n in range(len(asked))]

    def _ndcg(self, found: Found) -> Doubles:
        named = [[(self.ids[int(place)], score) for place, score in own] for own in found]
        return Legs.of({"way": named}, self._grades, cutoff=CUTOFF).alone("way")


def _of_queries(slot: Slot, queries: Sequence[Query]) -> list[Any]:
    """A vector for each query.

    Raises:
        TuneError: the encoder takes neither the text of a query nor its media.
    """
    vectors = vectors_of_queries(slot, queries, 0)
    for query, vector in zip(queries, vectors, strict=True):
        if vector is None:
            got = given_by(query)
            what, do = "this encoder accepts no part of a query", "leave out the encoder, or such queries"
            expected = " or ".join(slot.query_inputs)
            raise TuneError(what, where=f"encoder {slot.name!r}", got=got, expected=expected, do=do)
    return vectors


def _cut(rows: Floats, width: int, similarity: Similarity) -> Floats:
    """The first numbers of each vector, as the adapter's `truncate_dim` leaves them."""
    return unit(rows[:, :width]) if similarity == "cosine" else rows[:, :width]
