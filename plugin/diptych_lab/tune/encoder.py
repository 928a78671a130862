"""`tune_encoder`: which encoders, width and storage answer judged queries best within a budget."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diptych.errors import TuneError
from diptych.evaluate import Qrels
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.protocols import TEACHER_FILE
from diptych.runtime.phases import Progress, Unwatched
from diptych.slots.slot import Slot
from diptych.types import Query
from diptych_lab.tune.choose import LEAST, PRESENT, ROUNDS, against, folds, with_front
from diptych_lab.tune.encoder_report import NOW, EncoderBudget, EncoderChoice, EncoderReport
from diptych_lab.tune.encoder_trials import EncoderTrials
from diptych_lab.tune.grid import Setup, of_bits
from diptych_lab.tune.index import slot_to_tune
from diptych_lab.tune.rerank import sampled
from diptych_lab.tune.sample import require_dense
from diptych_lab.tune.slot_candidates import Doubles


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
    documents: int = 2000,
    sample: int = 200,
    confidence: float = 0.95,
    progress: Progress | None = None,
    seed: int = 0,
) -> EncoderReport:
    """Try encoders of documents and of queries, leading numbers of their vectors, and ways to store these.

    The present encoder and `others` are tried. Documents and queries may have different encoders; pairs that do not
    share a space are left out. Stored vectors are read; other encoders encode the sampled documents. The collection is
    only read; ways to store vectors are tried with the sample in a temporary folder.

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
        documents: sampled at most, beside those that are relevant to a query.
        sample: queries at most.
        confidence: of the interval of the gain.
        progress: receives the progress.
        seed: of the sample of queries and of the division into parts.

    Raises:
        TuneError: no judged query, or a slot without plain dense vectors.
        CollectionNotFound: nothing has been populated yet.
    """
    started, view, limits = time.perf_counter(), handle.now(), budget or EncoderBudget()
    tuned = slot_to_tune(view, slot)
    require_dense(tuned)
    if tuned.anchored or view.tenancy is not None:
        got = "the scores of a reranker's anchors" if tuned.anchored else "a collection with tenants"
        raise TuneError("this encoder cannot be tuned", where=tuned.where, got=got)
    asked = sampled(queries, qrels, sample, seed=seed)
    if not asked:
        raise TuneError("no query has a relevant document", where=f"collection {view.name!r}", got=len(queries))
    trials = EncoderTrials(view, tuned, others, asked, qrels, documents, progress or Unwatched())
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
        gain = against(PRESENT, _held_out(table, order, seed) - table[present], confidence)
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
        confidence=confidence,
        seconds=time.perf_counter() - started,
    )


def _held_out(table: Doubles, order: Any, seed: int) -> Doubles:
    """For each query the value of what the other queries choose, `[n]`."""
    values = np.zeros(table.shape[1])
    for training, part in folds(len(values), seed):
        values[part] += table[_best(table[:, training], order), part] / ROUNDS
    return values


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
        adapter = adapter or _trained_adapter(Path(folder)) or slot.config.adapter
        own = slot.config.options if adapter == slot.config.adapter else {}
        choice = EncoderChoice(Path(folder).name, adapter, {**own, "model": folder})
        found.append(replace(choice, documents=not (Path(folder) / TEACHER_FILE).is_file()))
        found += _exits(choice.adapter, choice.options)
    names = [NOW, *(choice.name for choice in found)]
    return [
        choice if names.count(choice.name) == 1 else replace(choice, name=str(choice.options["model"]))
        for choice in {str(choice.options["model"]): choice for choice in found}.values()
    ]


def _trained_adapter(folder: Path) -> str:
    """The adapter of a trained model, by the report of its training; empty without a report."""
    try:
        return str(json.loads((folder / "report.json").read_text("utf-8"))["models"][0]["adapter"])
    except (OSError, ValueError, TypeError, LookupError):  # the report of another program
        return ""


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
