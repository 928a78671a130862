"""`Decision`: what an apply does with the gate's report. `Refusal`: its record in the collection's metadata.

`stale_threshold` says whether a score threshold still fits.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from diptych.config.models import SearchConfig
from diptych.errors import DiptychError, GateFailed
from diptych.handle.create import timestamp, who
from diptych.handle.open_handle import stored_search
from diptych.handle.view import View, whole
from diptych.metadata.models import CollectionMetadata, Record, State
from diptych.metadata.store import GATE, raw_metadata, update_metadata
from diptych.populate.pace import in_background
from diptych.runtime.phases import phase
from diptych.search import Pipeline
from diptych.search import search as searched
from diptych.swap.apply_types import ApplyContext
from diptych.swap.backfill import BackfillRun
from diptych.swap.gate.answers import remembering, searched_otherwise
from diptych.swap.gate.gate import GateReport, change_of, run_gate
from diptych.swap.gate.judged import JudgedComparison, how_to_judge, is_judged_here
from diptych.swap.vectors import StorageTrial, changed_storage

MOST_QUERIES = 5_000  # judged ones, above which the advice is not to judge more
FIRST_QUERIES = 50  # to judge where nothing tells how many are needed
ENCODERS, SETTINGS, STORAGE = "encoders", "settings", "storage settings"


class Decision:
    """Runs the gate on what an apply is about to make live.

    Args:
        context: the apply's context; receives a warning if measuring failed and `options.ignore_gate` is set.
        trial: changes the storage of live vectors for the gate, and back.
        backfill: what was filled, for the details of GateFailed.
    """

    def __init__(self, context: ApplyContext, trial: StorageTrial, backfill: BackfillRun) -> None:
        self._context, self._handle, self._trial, self._backfill = context, context.handle, trial, backfill
        self.stale = ""  # why the score threshold no longer fits; empty if it does
        self._refused = ""  # what the gate last said of the swap or settings by judgements; empty if that passed

    def decide(self, metadata: CollectionMetadata, target: State, search: SearchConfig) -> GateReport | None:
        """Run the gate on the swap under way or, if there is none, on other settings or storage for the live vectors.

        None without `options.gate`, if measuring failed and `options.ignore_gate` is set, and for settings by which
        nothing is answered otherwise. Live vectors with new storage are measured last; the new storage stays unless the
        gate fails or the apply stops before the change. A refusal is noted; one by judgements holds after these are
        removed.

        Raises:
            GateFailed: the gate keeps the old encoders or settings.
        """
        client, name, swap = self._handle.client, self._handle.name, metadata.swap
        if swap is None and not client.count(name, exact=True).count:
            return None
        settings = f"{target.model_dump_json()} {search.model_dump_json()}"
        began = swap.began if swap else hashlib.sha256(settings.encode()).hexdigest()
        old, between, new = self._views(metadata, target, search)
        if not self._context.options.gate:
            return None
        what, sides = (ENCODERS, "pipeline with the old one") if swap else (SETTINGS, "settings with the old ones")
        with phase(f"gate: compare the new {sides}"):
            differs = swap is not None or searched_otherwise(old.search_config, between.search_config, old.slots)
            refusal = refusal_of(raw_metadata(client, name), began)
            self._refused = refusal.judged if refusal else ""
            try:
                report = self._accepted(what, old, between) if differs else None
                report = self._on_storage(report, old, between, new)
            except GateFailed as error:
                comparison = getattr(error.context["report"], "judged", None)
                sentence = f"{error.context['outcome']}: {error.got}"
                if comparison is not None:
                    self._refused = sentence if comparison.verdict != "passed" or comparison.lost_slices else ""
                with contextlib.suppress(Exception):  # the gate's own error says more
                    refusal = Refusal(began=began, sentence=sentence, when=timestamp(), by=who(), judged=self._refused)
                    update_metadata(client, name, {GATE: refusal.model_dump(mode="json")})
                raise
            if self._refused and report and report.outcome == "passed":
                update_metadata(client, name, {GATE: None})
        return report

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
        before, after = ({name: own.space for name, own in _state_of(view).slots.items()} for view in (old, between))
        changed = {name for name, space in after.items() if before.get(name) != space}  # by another encoder, or new
        if stale := stale_threshold(old.search_config, search, new.slots, changed):
            self.stale = stale
            self._context.warnings.append(stale)
        return remembering(old), remembering(between), new

    def _on_storage(self, report: GateReport | None, old: View, between: View, new: View) -> GateReport | None:
        """The report, extended by measurements after the kept vectors have changed their storage.

        With judgements the baseline is the live view. Without them it differs in the storage only, so that each missing
        neighbour is due to the storage.
        """
        states = _state_of(between), _state_of(new)
        if self._context.stopped.is_set() or not changed_storage(*states):
            return report
        baseline = between if self._context.judged is None else old
        self._measured(baseline, new)  # caches the baseline's answers, which cannot be computed afterwards
        self._trial.begin(*states)
        try:
            storage_report = self._accepted(STORAGE, baseline, new)
        except BaseException:
            self._trial.put_back()
            raise
        if self._context.stopped.is_set() or not self._context.options.cut_over:
            self._trial.put_back()
        if report is None or storage_report is None or self._context.judged is not None:
            return storage_report
        return replace(report, remarks=(*report.remarks, f"with the new storage {storage_report.sentence}"))

    def _accepted(self, what: str, old: View, new: View) -> GateReport | None:
        options = self._context.options
        try:
            report = self._measured(old, new)
        except DiptychError as error:
            if not options.ignore_gate:  # what could not be measured must not pass
                raise
            self._context.warnings.append(f"the gate could not measure, which --ignore-gate accepts: {error.what}")
            return None
        if self._refused and report.outcome == "not measured":
            reasons = report.reasons or (change_of(report),)
            report = replace(report, reasons=(*reasons, f"with judgements the gate said: {self._refused}"))
        if not report.reasons or options.ignore_gate:
            return report
        consent, is_refused = options.unmeasured, report.outcome != "not measured"
        if not is_refused and options.cut_over:
            # Consent in advance (`--unmeasured`) does not overrule a refusal by judgements.
            is_refused = not (consent(report) if callable(consent) else consent and not self._refused)
        if is_refused:
            raise self._failed(what, report)
        return report

    def _measured(self, old: View, new: View) -> GateReport:
        for view in (old, new):
            with contextlib.suppress(DiptychError):  # a query loads what is needed; the gate itself says what is wrong
                searched(whole(view), ["a question"], limit=1)
        config, judged = self._context.config.swap.gate, self._context.judged
        return in_background(partial(run_gate, old, new, config=config, judged=judged), self._context.stopped)

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
            got="; ".join([*report.reasons, *([self.stale] if self.stale else [])]),
            do=remedies["undecided" if self._refused and report.outcome == "not measured" else report.outcome],
            report=report,
            outcome=report.outcome,
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


def stale_threshold(old: SearchConfig, new: SearchConfig, slots: Iterable[str], changed: Collection[str]) -> str:
    """A sentence on a score threshold that stays although the scales of final scores differ; empty if it still fits.

    A reranker at the end without a `weight` gives its own scores, whatever comes before it.

    Args:
        old, new: the settings.
        slots: those of the new pipeline.
        changed: slots with another encoder.
    """
    threshold, slots = new.score_threshold, [*slots]
    if threshold is None or threshold != old.score_threshold:
        return ""
    before, after = (Pipeline.from_config(search, slots) for search in (old, new))
    last, then = (pipeline.rerank[-1] if pipeline.rerank else None for pipeline in (after, before))
    if last is not None and then is not None and last.weight == then.weight == 1:
        stays = (last.adapter, last.options) == (then.adapter, then.options)
    else:
        # Settings of the approximate search do not change scores.
        plain = [
            replace(each, retrieve=tuple(replace(branch, params=None) for branch in each.retrieve))
            for each in (before, after)
        ]
        stays = plain[0] == plain[1] and not any(slot in changed for slot in after.slots)
    return "" if stays else threshold_is_stale(threshold)


def threshold_is_stale(threshold: float) -> str:
    """What `plan`, `apply`, the history and `status` say of a score threshold that stayed while the scores changed."""
    return (
        f"search.score_threshold {threshold:g} is stale: it was chosen for other scores, and may hide every hit; "
        "choose a new one by the scores that diptych search shows"
    )


class Refusal(Record):
    """What the gate said of the swap that began at `began`, or of settings by their digest; measured at `when` by `by`.

    `judged` is what it said when it last had judgements; empty if the swap passed by them, or there were none.
    """

    began: str
    sentence: str
    when: str
    by: str
    judged: str = ""


def refusal_of(raw: Mapping[str, Any], began: str | None) -> Refusal | None:
    """Why the gate refused this swap, or these settings, when they were last applied; None if it did not.

    Args:
        raw: the whole stored metadata by key.
        began: when the swap began, or the digest of the settings; of another one nothing counts. None: of any.
    """
    try:
        refusal = Refusal.model_validate(raw[GATE]) if raw.get(GATE) else None
    except ValidationError:
        return None  # written by a release with another format
    return refusal if refusal and began in (None, refusal.began) else None
