"""`Decision`: what an apply does with the gate's report, and what it carries over or restores."""

from __future__ import annotations

import contextlib
import hashlib
import math
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from qdrant_client import models

from diptych.config import Config
from diptych.config.models import SearchConfig
from diptych.errors import DiptychError, GateFailed
from diptych.evaluate import Qrels
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import stored_search
from diptych.handle.snapshot import View
from diptych.metadata.models import CollectionMetadata, Generation, State, Swap
from diptych.metadata.store import GATE, raw_metadata, update_metadata
from diptych.populate.pace import in_background
from diptych.search import Pipeline
from diptych.slots.slot import slot_config
from diptych.stores.versions import optimized
from diptych.swap.apply_types import ApplyContext
from diptych.swap.backfill.run import BackfillRun
from diptych.swap.changes import SWAPS, Change
from diptych.swap.gate.answers import (
    answers,
    pipeline_of,
    query_obstacle,
    remembering,
    searched_otherwise,
    warm_up,
    without_threshold,
)
from diptych.swap.gate.gate import Coverage, GateReport, change_of, coverage, run_gate
from diptych.swap.gate.judged import Judged, JudgedComparison, how_to_judge, is_judged_here
from diptych.swap.lease import Lease, TriedStorage, note_refusal, refusal_of
from diptych.swap.vectors import changed_storage, configure_dense, set_sparse_on_disk, set_storage
from diptych.types import Query

PAUSE, FIRST_PAUSE = 1.0, 2.0  # seconds between two checks whether a server still builds an index, and before the first

LEAST_HITS = 20  # above the old threshold; with fewer, their precision says little
_DIGITS = 6  # to which a carried threshold is rounded, always down, so that no hit is lost

MOST_QUERIES = 5_000  # judged ones, above which the advice is not to judge more
FIRST_QUERIES = 50  # to judge where nothing tells how many are needed
ENCODERS, SETTINGS, STORAGE = "encoders", "settings", "storage settings"


class Decision:
    """Runs the gate on what an apply is about to make live.

    Args:
        context: the apply's context; receives a warning if measuring failed and `options.ignore_gate` is set.
        trial: changes the storage of live vectors for the gate, and back.
        backfill: what was filled, for the details of GateFailed.

    `threshold` is set by the gate if the config keeps a score threshold while the scores change.
    """

    def __init__(self, context: ApplyContext, trial: StorageTrial, backfill: BackfillRun) -> None:
        self._context, self._handle, self._trial, self._backfill = context, context.handle, trial, backfill
        self.threshold: CarriedThreshold | None = None
        self._refused = ""  # what the gate last said of the swap or settings by judgements; empty if that passed

    def on_encoders(self, metadata: CollectionMetadata, swap: Swap) -> GateReport | None:
        """Run the gate on a swap; None without `options.gate`, or if measuring failed and `options.ignore_gate` is set.

        Kept vectors with new storage are measured last; the new storage stays unless the gate fails or the apply stops
        before the cut-over. A refusal is recorded; one by judgements holds after these are removed.

        Raises:
            GateFailed: the gate keeps the old encoders.
        """
        # The settings that were announced. Those edited in the config since then wait for an apply after the cut-over.
        search = SearchConfig.model_validate(swap.search or {})
        return self._decided(ENCODERS, metadata, swap.target, search, swap.began)

    def _decided(
        self, what: str, metadata: CollectionMetadata, target: State, search: SearchConfig, began: str
    ) -> GateReport | None:
        """Measure, and note a refusal under this name; one by judgements outlives them until others let it pass."""
        old, between, new = self._views(metadata, target, search)
        if not self._context.options.gate:
            return None
        client, name = self._handle.client, self._handle.name
        covered = (
            {generation.vector: coverage(client, name, generation) for generation in target.slots.values()}
            if what == ENCODERS
            else None
        )
        differs = what == ENCODERS or searched_otherwise(old.search_config, between.search_config, old.slots)
        refusal = refusal_of(raw_metadata(client, name), began)
        self._refused = refusal.judged if refusal else ""
        try:
            report = self._accepted(what, old, between, covered) if differs else None
            report = self._on_storage(report, old, between, new, covered)
        except GateFailed as error:
            comparison = getattr(error.context["report"], "judged", None)
            sentence = f"{error.context['outcome']}: {error.got}"
            if comparison is not None:
                self._refused = sentence if comparison.verdict != "passed" or comparison.lost_slices else ""
            with contextlib.suppress(Exception):  # the gate's own error says more
                note_refusal(client, name, began, sentence, self._refused)
            raise
        if self._refused and report and report.outcome == "passed":
            update_metadata(client, name, {GATE: None})
        return report

    def on_settings(self, metadata: CollectionMetadata, target: State, search: SearchConfig) -> GateReport | None:
        """Run the gate on new search settings or storage for the live vectors.

        None when nothing differs that decides answers, when the collection is empty, without `options.gate`, or when
        measuring failed and `options.ignore_gate` is set. New storage stays, unless the gate fails or the apply stops
        before the change.

        Raises:
            GateFailed: the gate keeps the old settings.
        """
        if not self._handle.client.count(self._handle.name, exact=True).count:
            return None
        settings = f"{target.model_dump_json()} {search.model_dump_json()}"
        began = hashlib.sha256(settings.encode()).hexdigest()
        return self._decided(SETTINGS, metadata, target, search, began)

    def _views(self, metadata: CollectionMetadata, target: State, search: SearchConfig) -> tuple[View, View, View]:
        """The live view, the new one with kept vectors' old storage, and the new one."""
        live = metadata.live
        storage = {name: then.storage for name, (then, _) in changed_storage(live, target).items()}
        slots = {
            name: generation.model_copy(update={"storage": storage[name]}) if name in storage else generation
            for name, generation in target.slots.items()
        }
        between = self._handle.at(target.model_copy(update={"slots": slots}), metadata, search)
        old = self._handle.at(live, metadata, stored_search(metadata))
        new = self._handle.at(target, metadata, search)
        self.threshold = self._carried(old, between)
        if self.threshold is not None:
            self._context.warnings.append(self.threshold.sentence)
            search = self.with_threshold(search)
            between, new = (replace(view, search_config=search) for view in (between, new))
        return remembering(old), remembering(between), new

    def _carried(self, old: View, new: View) -> CarriedThreshold | None:
        """The threshold carried over; None if none changes, or if measuring failed with `options.ignore_gate`."""
        threshold = old.search_config.score_threshold
        if threshold is None or new.search_config.score_threshold != threshold:
            return None
        options = self._context.options
        try:
            return carried_threshold(threshold, old, new, self._context.judged if options.gate else None)
        except DiptychError as error:
            if not options.ignore_gate:
                raise
            self._context.warnings.append(f"search.score_threshold could not be compared: {error.what}")
            return None

    def with_threshold(self, search: SearchConfig) -> SearchConfig:
        """The settings with the carried threshold, if there is one."""
        if self.threshold is None or self.threshold.new is None:
            return search
        return search.model_copy(update={"score_threshold": self.threshold.new})

    def _on_storage(
        self,
        report: GateReport | None,
        old: View,
        between: View,
        new: View,
        covered: Mapping[str, Coverage] | None,
    ) -> GateReport | None:
        """The report, extended by measurements after the kept vectors have changed their storage.

        With judgements the baseline is the live view. Without them it differs in the storage only, so that each missing
        neighbour is due to the storage.
        """
        states = _state_of(between), _state_of(new)
        if self._context.stopped.is_set() or not changed_storage(*states):
            return report
        baseline = between if self._context.judged is None else old
        self._measured(baseline, new, covered)  # caches the baseline's answers, which cannot be computed afterwards
        self._trial.begin(*states)
        try:
            storage_report = self._accepted(STORAGE, baseline, new, covered)
        except BaseException:
            self._trial.put_back()
            raise
        if self._context.stopped.is_set() or not self._context.options.cut_over:
            self._trial.put_back()
        if report is None or storage_report is None or self._context.judged is not None:
            return storage_report
        return replace(report, remarks=(*report.remarks, f"with the new storage {storage_report.sentence}"))

    def _accepted(self, what: str, old: View, new: View, covered: Mapping[str, Coverage] | None) -> GateReport | None:
        options = self._context.options
        try:
            report = self._measured(old, new, covered)
        except DiptychError as error:
            if not options.ignore_gate:  # what could not be measured must not pass
                raise
            self._context.warnings.append(f"the gate could not measure, which --ignore-gate accepts: {error.what}")
            return None
        if self._refused and report.outcome == "not measured":
            reasons = report.reasons or (change_of(report),)
            report = replace(report, reasons=(*reasons, f"with judgements the gate said: {self._refused}"))
        if report.reasons and not options.ignore_gate and not self._consented(report):
            raise self._failed(what, report)
        return report

    def _consented(self, report: GateReport) -> bool:
        """Whether the user accepts an unmeasured change; true where nothing goes live.

        Consent in advance (`--unmeasured`) does not overrule a refusal by judgements.
        """
        options = self._context.options
        if report.outcome != "not measured" or not options.cut_over:
            return report.outcome == "not measured"
        return options.unmeasured(report) if callable(options.unmeasured) else options.unmeasured and not self._refused

    def _measured(self, old: View, new: View, covered: Mapping[str, Coverage] | None) -> GateReport:
        for view in (old, new):
            warm_up(view)
        gate = partial(
            run_gate, old, new, config=self._context.config.swap.gate, judged=self._context.judged, covered=covered
        )
        return in_background(gate, self._context.stopped)

    def _failed(self, what: str, report: GateReport) -> GateFailed:
        give_up = "abandon the swap: diptych rollback" if what == ENCODERS else "restore the config"
        accept = "look at the answers, and accept them: diptych apply --unmeasured"
        decide, anyway = self._how_to_decide(report.judged), "cut over anyway: diptych apply --ignore-gate"
        if self._refused and self._context.judged is None:
            decide = "put `evaluate` back into the config, so that judgements decide again"
        remedies = {
            "worse": f"{give_up}; or {anyway}",
            "undecided": f"{decide}; or {give_up}; or {anyway}",
            "not measured": f"{accept}; or {decide}; or {give_up}",
        }
        return GateFailed(
            f"the gate keeps the old {what}: {report.outcome}",
            where=f"collection {self._handle.name!r}",
            got="; ".join([*report.reasons, *([self.threshold.measured] if self.threshold else [])]),
            do=remedies["undecided" if self._refused and report.outcome == "not measured" else report.outcome],
            report=report,
            outcome=report.outcome,
            asking=self._backfill.asking,
            left=self._backfill.left_shown,
            missing=len(self._backfill.filled.left),
        )

    def _how_to_decide(self, comparison: JudgedComparison | None) -> str:
        """What lets judgements decide: time for all that there are, else more of them."""
        judged, config = self._context.judged, self._context.config
        if comparison and judged and comparison.queries < (count := len(judged.asked)):
            seconds = math.ceil(config.swap.gate.seconds * count / comparison.queries)
            return f"raise swap.gate.seconds to {seconds}, enough for all {count:,} judged queries, then diptych apply"
        needed = comparison.needed if comparison and comparison.needed else FIRST_QUERIES
        sample = max(needed, FIRST_QUERIES)
        judging = how_to_judge(config.evaluate, judged, sample)
        if not comparison or not comparison.needed:
            return f"judge queries: {judging}"
        if needed > MOST_QUERIES:
            return f"some {needed:,} judged queries would decide, as the difference is so close to the margin"
        anew = "" if is_judged_here(config.evaluate) else f"add them to your judgements, or judge {sample:,} anew: "
        return f"judge about {needed - comparison.queries:,} more queries: {anew}{judging}"


def _state_of(view: View) -> State:
    return State(slots={name: generation for name, slot in view.slots.items() if (generation := slot.generation)})


@dataclass(frozen=True, slots=True)
class CarriedThreshold:
    """What becomes of `search.score_threshold` when the scores change that it was chosen for.

    With judgements, the new threshold is the lowest at which the hits of the judged queries are as precise as above the
    old one. Without them, the threshold is reported as stale.

    Args:
        old: the threshold of config and collection.
        new: the threshold of equal precision; None if the old one is stale.
        precision: precision of the judged queries' hits above the old one; NaN if it could not be measured.
        reason: why it is stale; empty if it was carried over.
    """

    old: float
    new: float | None = None
    precision: float = math.nan
    reason: str = ""

    @property
    def sentence(self) -> str:
        """What was done, and what to change in the config."""
        what = f"search.score_threshold {self.old:g}"
        if self.new is None:
            return (
                f"{what} is stale: it was chosen for the old scores, and {self.reason}; choose a new one "
                "by the scores that diptych search shows"
            )
        return (
            f"{what} is carried over as {self.new:g}, at a precision of {self.precision:.2f} on the judged queries; "
            f"write it into the config, or the next apply sets {self.old:g} again"
        )

    @property
    def measured(self) -> str:
        """With which threshold the gate measured, where the new settings do not go live."""
        if self.new is None:
            return self.sentence
        return f"measured with search.score_threshold {self.new:g}, as precise as {self.old:g} is now"


def carried_threshold(threshold: float, old: View, new: View, judged: Judged | None) -> CarriedThreshold | None:
    """What replaces a threshold that the config keeps although the scores change; None if no change is needed.

    Args:
        threshold: of both views.
        old, new: the views before and after the change.
        judged: the judged queries; None if there are none.
    """
    before, after = ({name: own.space for name, own in _state_of(view).slots.items()} for view in (old, new))
    changed = {name for name, space in after.items() if before.get(name) != space}  # by another encoder, or new
    if not scores_change(pipeline_of(old), pipeline_of(new), changed):
        return None
    if judged is None or not judged.asked:
        return CarriedThreshold(threshold, reason="without judged queries no equal precision can be measured")
    if obstacle := query_obstacle(old):
        return CarriedThreshold(threshold, reason=f"the old pipeline answers nothing ({obstacle})")
    return _of_equal_precision(threshold, old, new, judged)


def threshold_warnings(metadata: CollectionMetadata, config: Config, slot_changes: Sequence[Change]) -> list[str]:
    """A warning of what apply would do with a threshold that the config keeps although the scores change."""
    stored = stored_search(metadata)
    threshold = config.search.score_threshold
    if not metadata.search or threshold is None or threshold != stored.score_threshold:
        return []
    slots = {change.name: change.slot for change in slot_changes if change.slot is not None}
    before, after = (Pipeline.from_config(search, slots) for search in (stored, config.search))
    if not scores_change(before, after, {change.name for change in slot_changes if change.action in SWAPS}):
        return []
    judged = Judged.of(config.evaluate)
    done = "apply carries it over at equal precision on the judged queries" if judged else "it is stale"
    return [f"search.score_threshold {threshold:g} was chosen for other scores: {done}"]


def scores_change(old: Pipeline, new: Pipeline, changed: Collection[str]) -> bool:
    """Whether the final scores of two pipelines have different scales; `changed` are the slots with another encoder.

    A reranker at the end without a `weight` gives its own scores, whatever comes before it.
    """
    last = [pipeline.rerank[-1] if pipeline.rerank else None for pipeline in (old, new)]
    if last[0] is not None and last[1] is not None and last[0].weight == last[1].weight == 1:
        return (last[0].adapter, last[0].options) != (last[1].adapter, last[1].options)
    return _plain(old) != _plain(new) or any(slot in changed for slot in new.slots)


def _plain(pipeline: Pipeline) -> Pipeline:
    """The pipeline without settings of the approximate search, which do not change scores."""
    return replace(pipeline, retrieve=tuple(replace(branch, params=None) for branch in pipeline.retrieve))


def _of_equal_precision(threshold: float, old: View, new: View, judged: Judged) -> CarriedThreshold:
    before, after = (_scored(view, judged.asked, judged.qrels) for view in (old, new))
    above = [is_relevant for score, is_relevant in before if score >= threshold]
    if len(above) < LEAST_HITS or not any(above):
        reason = f"{len(above)} hits of the judged queries are above it, {sum(above)} of them relevant"
        return CarriedThreshold(threshold, reason=f"{reason}: too few to measure its precision")
    precision = sum(above) / len(above)
    lowest = _lowest_as_precise(after, precision)
    if lowest is None:
        return CarriedThreshold(
            threshold, None, precision, f"no new threshold reaches its precision of {precision:.2f}"
        )
    return CarriedThreshold(threshold, lowest, precision)


def _lowest_as_precise(scored: Sequence[tuple[float, bool]], precision: float) -> float | None:
    """The lowest score at and above which at least this share of the hits is relevant; None if there is none."""
    ranked = sorted(scored, reverse=True)
    scores = np.array([score for score, _ in ranked])
    shares = np.cumsum([is_relevant for _, is_relevant in ranked]) / np.arange(1, len(ranked) + 1)
    ends = np.append(scores[1:] != scores[:-1], True)  # hits of equal scores are all above a threshold, or none is
    fitting = np.flatnonzero(ends & (shares >= precision))
    return _rounded_down(float(scores[fitting[-1]])) if len(fitting) else None


def _scored(view: View, queries: Sequence[Query], qrels: Qrels) -> list[tuple[float, bool]]:
    """The score of each hit that the view would return without a threshold, and whether it is judged relevant."""
    hits = answers(without_threshold(view), queries, depth=view.search_config.limit)
    return [
        (hit.score, hit.id in qrels.relevant(query.id))
        for query, query_hits in zip(queries, hits, strict=True)
        for hit in query_hits
    ]


def _rounded_down(value: float) -> float:
    if value == 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(abs(value))) - _DIGITS + 1)
    return float(f"{math.floor(value / unit) * unit:.{_DIGITS}g}")


class StorageTrial:
    """Changes the storage of live vectors in place so that the gate can measure it, and restores it.

    Qdrant has one index for each vector. New quantization and graph settings replace the ones that answer queries, so
    they cannot be built beside them as new vectors are. The old settings are stored with the lease first: the next
    holder of the lease restores them after a kill.

    Args:
        handle: the open collection.
        lease: of the apply; it keeps what is needed to put everything back.
        stopped: ends the wait for a server's indexes.
    """

    def __init__(self, handle: CollectionHandle, lease: Lease, stopped: threading.Event) -> None:
        self._client, self._name = handle.client, handle.name
        self._lease, self._stopped = lease, stopped

    def begin(self, before: State, after: State) -> None:
        """Store the vectors that both states use as `after` says, and wait until the indexes are built."""
        changed = changed_storage(before, after)
        # Recorded first: after a kill the record restores what was changed, and restoring what was not does no harm.
        self._lease.trying({vector: trial for pair in changed.values() for vector, trial in self._trials(*pair)})
        for then, now in changed.values():
            set_storage(self._client, self._name, slot_config(now).storage, then)
        self._await_indexes()

    def put_back(self) -> None:
        """Store the vectors as they were before the trial."""
        for vector, trial in self._lease.trials.items():
            if trial.sparse:
                set_sparse_on_disk(self._client, self._name, vector, trial.before["on_disk"])
            else:
                configure_dense(self._client, self._name, vector, models.VectorParamsDiff.model_validate(trial.before))
        self._await_indexes()
        self._lease.trying({})  # only now: a kill before this restores once more

    def put_back_after_a_kill(self, metadata: CollectionMetadata) -> None:
        """Restore what a killed apply left on trial; does nothing if its change became live."""
        if not self._lease.trials:
            return
        live = {
            vector: generation.storage for generation in metadata.live.slots.values() for vector in generation.vectors
        }
        if all(live.get(vector) == trial.wanted for vector, trial in self._lease.trials.items()):
            self._lease.trying({})
        else:
            self.put_back()

    def _trials(self, then: Generation, now: Generation) -> Iterator[tuple[str, TriedStorage]]:
        config = self._client.get_collection(self._name).config
        if then.kind == "sparse":
            index = (config.params.sparse_vectors or {})[then.vector].index
            on_disk = bool(index and index.on_disk)
            yield then.vector, TriedStorage(wanted=now.storage, before={"on_disk": on_disk}, sparse=True)
            return
        named = config.params.vectors
        sections = [(then.storage, now.storage)]
        if then.first_stage:
            sections.append((then.storage["first_stage"], now.storage["first_stage"]))
        for vector, pair in zip(then.vectors, sections, strict=True):
            params = named[vector] if isinstance(named, dict) else named
            assert params is not None, "a live vector is there"
            yield vector, TriedStorage(wanted=now.storage, before=_way_back(params, config.hnsw_config, *pair))

    def _await_indexes(self) -> None:
        """Wait until the indexes match the settings: an embedded store builds them here, a server by itself."""
        if hasattr(self._client, "optimize"):
            optimized(self._client, self._name)
            return
        pause = FIRST_PAUSE
        yellow = models.CollectionStatus.YELLOW
        while not self._stopped.wait(pause) and self._client.get_collection(self._name).status == yellow:
            pause = PAUSE


def _way_back(
    params: models.VectorParams, defaults: models.HnswConfig, then: Mapping[str, Any], now: Mapping[str, Any]
) -> dict[str, Any]:
    """The update that restores a vector's parameters wherever two storage sections differ.

    A missing setting is sent with its default value, since Qdrant merges an update into the existing settings.
    """
    diff = models.VectorParamsDiff()
    if then.get("hnsw") != now.get("hnsw"):
        configured = params.hnsw_config.model_dump(exclude_none=True) if params.hnsw_config else {}
        known = {**defaults.model_dump(exclude_none=True), **configured}
        fields = models.HnswConfigDiff.model_fields
        diff.hnsw_config = models.HnswConfigDiff(**{name: value for name, value in known.items() if name in fields})
    if then.get("quantization") != now.get("quantization"):
        diff.quantization_config = params.quantization_config or models.Disabled.DISABLED
    if then.get("on_disk") != now.get("on_disk"):
        diff.on_disk = bool(params.on_disk)
    changed: dict[str, Any] = diff.model_dump(mode="json", exclude_none=True)
    return changed
