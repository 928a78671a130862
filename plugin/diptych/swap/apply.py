"""`apply`: moves a live collection to the encoders that a config names.

1. Lease: only one apply works on a collection at a time (`lease`).
2. Create, then announce: the new vector exists before the metadata names it, and from then on every populate,
   in every process, writes old and new vector (`transitions`). A populate reads the metadata after each upload, and
   before it unless it did within the last second. Where a vector was announced meanwhile, it adds that vector to what
   it has just uploaded before it counts the documents as written (`populate.index.Indexer.finish_write`).
3. Back-fill: page by page read, encode, write, then read the payloads again; encode again what changed in between; only
   then move the checkpoint (`backfill`).
4. Repair: fill points that still lack the new vector, because other programs write them, in at most 20 passes. The gate
   counts those that are left, such as points without a text (`backfill`).
5. Gate: the new view answers the same queries as the live one. With judgements the gate refuses a new encoder that is
   not shown to be about as good; without, a broken one, and without consent one that changes many answers.
   Then the old vectors stay live (`gate`).
6. Cut over: one metadata update makes the new state live; the old one stays as `previous` (`transitions`). Other
   processes follow: at most every 2 s a search starts a read of the metadata, new encoders load in the background, then
   the view is exchanged (`handle.collection_handle`). One that cannot load them warns, tries again, and answers with
   the old encoder and the old vectors for as long as there are any.
7. Afterwards populates write both vectors, until `finish`, or the next cut-over, drops the old one: a server's log may
   still name it, so it waits there (`stores.retired_vectors`). `rollback` exchanges the two states again.

The order makes it safe. A populate that has read the announcement writes both vectors. One that has not when it begins
an upload reads it afterwards and adds the new vector. So a text that changes after the second read of step 3 gets its
new vector from the populate that wrote it. Pictures: docs/architecture.md, "The swap"; reasons: docs/decisions.md.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace

from diptych.config.models import Config, SearchConfig
from diptych.errors import SwapError
from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.open_handle import describes, stored_search, with_stored_default
from diptych.metadata.models import CollectionMetadata
from diptych.registry import notifying_failure
from diptych.runtime.phases import Progress, Unwatched, phase
from diptych.stores.retired_vectors import Dropped, drop_orphans
from diptych.stores.server_errors import needs_answers
from diptych.stores.versions import optimized
from diptych.swap.apply_types import ApplyContext, ApplyOptions, ApplyReport, generation_names
from diptych.swap.backfill import BackfillRun
from diptych.swap.changes import SWAPS, Change, changes, named
from diptych.swap.gate.decision import Decision
from diptych.swap.gate.gate import GateReport
from diptych.swap.lease import Lease
from diptych.swap.transitions import SwapStart, metadata_after, write
from diptych.swap.vectors import StorageTrial, set_shared_storage


def apply(
    handle: CollectionHandle,
    config: Config,
    options: ApplyOptions | None = None,
    *,
    progress: Progress | None = None,
    stopped: threading.Event | None = None,
) -> ApplyReport:
    """Create the new vectors, fill them while the old ones answer, pass the gate, and cut over in one update.

    If it is killed, run it again to continue; at most a chunk and the last second's work are repeated. The
    back-fill encodes at low priority, so that queries that this process answers meanwhile come first; repairs, and the
    full pace at a server, do not.

    Args:
        handle: the open collection.
        config: the config to apply.
        options: gate, pace and others, see `ApplyOptions`.
        progress: receives the progress of stage `fill`.
        stopped: ends the work cleanly at the next chunk.

    Raises:
        ApplyRunning: another process, or thread, is applying a swap.
        GateFailed: the gate keeps the old encoders or settings; new vectors stay for a retry.
        SwapError: another swap is under way.
        PopulateError: store or encoder failed for good.
        StoreUnavailable: the server does not answer.
    """

    @needs_answers("run the same apply again once it does: it continues where it was")
    def work() -> ApplyReport:
        given, event = options or ApplyOptions(), stopped or threading.Event()
        handle.consent.state(config)
        completed = with_stored_default(config, handle.read())
        with Lease(handle.client, handle.name) as lease:
            report = _Apply(ApplyContext(handle, completed, given, lease, progress or Unwatched(), event)).run()
        if not report.retired or given.later or event.is_set():
            return report
        # What could not be dropped during the apply. Other swaps may run: retired names are never used again.
        only = {vector_name for vector in report.retired for vector_name in (vector, f"{vector}.first")}
        left = drop_orphans(handle.client, handle.name, handle.read(), only=only, wait=True, stopped=event)
        dropped = tuple(dict.fromkeys((*report.dropped, *generation_names(left.dropped))))
        return replace(report, dropped=dropped, retired=generation_names(left.waiting))

    started, registry = time.time_ns(), handle.registry
    report = replace(notifying_failure(registry, handle.name, "swap", work), started=started)
    failures = registry.tell("diptych_after_swap", report)
    return replace(report, warnings=(*report.warnings, *failures)) if failures else report


class _Apply:
    """One run of apply: its parts and its counts."""

    def __init__(self, context: ApplyContext) -> None:
        self._context, self._handle, self._options = context, context.handle, context.options
        self._started, self._left = time.perf_counter(), Dropped()
        self._backfill = BackfillRun(context)
        self._trial = StorageTrial(context.handle, context.lease, context.stopped)
        self._decision = Decision(context, self._trial, self._backfill)

    def run(self) -> ApplyReport:
        """Go from the present state of the collection to the cut-over."""
        metadata = self._handle.read()
        self._trial.put_back_after_a_kill(metadata)
        if metadata.swap is None:
            with phase("compare the config with the collection"):
                slot_changes = changes(self._handle, self._context.config, metadata, again=self._options.again)
            start = SwapStart(self._context, slot_changes)
            if not any(change.action in SWAPS for change in slot_changes):
                return self._settings(start, metadata, slot_changes)
            with phase("create the new vectors"):
                metadata = start.announce(metadata)
        elif not describes(self._context.config, metadata.swap.target):
            swap = metadata.swap
            slots = ", ".join(f"{slot}: {named(generation)}" for slot, generation in swap.target.slots.items())
            raise SwapError(
                "another swap is under way",
                where=f"collection {self._handle.name!r}",
                got=f"begun by {swap.by} at {swap.began}; its target: {slots}",
                expected="the config that began it",
                do="restore that config and run diptych apply, or abandon the swap: diptych rollback",
            )
        return self._fill_and_cut_over(metadata)

    def _settings(self, start: SwapStart, metadata: CollectionMetadata, slot_changes: list[Change]) -> ApplyReport:
        """Apply changes that make no vectors; fill missing vectors, and drop those that a kill left behind."""
        self._backfill.repair(metadata, metadata.live)
        self._context.lease.clear()  # an apply killed after its cut-over leaves its checkpoints
        self._left = drop_orphans(self._handle.client, self._handle.name, self._handle.read())
        search = self._context.config.search.model_dump(mode="json")
        unchanged = all(change.action == "keep" for change in slot_changes)
        if unchanged and metadata.search and search == stored_search(metadata).model_dump(mode="json"):
            return self._report("filled gaps" if any(self._backfill.encoded.values()) else "nothing to do")
        target = start.settings(metadata.live)
        gate = self._decision.decide(metadata, target, self._context.config.search)
        if self._context.stopped.is_set() or not self._options.cut_over:
            return self._report("measured", gate)
        # The gate has set it already, except in an empty collection, where it does not run.
        set_shared_storage(self._handle, metadata.live, target)
        after = metadata_after(
            metadata,
            "changed settings",
            target,
            why=self._options.why,
            config=self._context.config.digest(),
            gate="; ".join(filter(None, [gate.sentence if gate else "", self._decision.stale])),
            live=target,
            search=search,
        )
        self._context.lease.require()
        write(self._handle.client, self._handle.name, metadata, after, self._context.lease.forget())
        self._optimize()
        self._handle.install(after)
        return self._report("changed settings", gate)

    def _fill_and_cut_over(self, metadata: CollectionMetadata) -> ApplyReport:
        swap = metadata.swap
        assert swap is not None, "what is finished was begun"
        with phase("fill the new vectors"):
            for name, generation in swap.building.items():
                self._backfill.fill(self._handle.building(name, generation))
            filled = {generation.vector for generation in swap.building.values()}
            self._backfill.repair(metadata, swap.target, filled)  # vectors that are used again may have gaps
        if self._context.stopped.is_set():
            return self._report("filled")
        self._optimize()  # before the gate, which is to measure the index that will serve
        # The settings that were announced. Those edited in the config since then wait for an apply after the cut-over.
        search = SearchConfig.model_validate(swap.search or {})
        gate = self._decision.decide(self._handle.read(), swap.target, search)
        if self._context.stopped.is_set() or not self._options.cut_over:
            return self._report("filled", gate)
        with phase("cut over"):
            return self._cut_over(gate)

    def _cut_over(self, gate: GateReport | None) -> ApplyReport:
        self._context.lease.require()  # a process that has lost the lease must not cut over another one's swap
        before = self._handle.read()
        swap = before.swap
        assert swap is not None, "nobody else ends it while the lease is held"
        after = metadata_after(
            before,
            "cut over",
            swap.target,
            why=swap.why,
            config=swap.config,
            gate="; ".join(filter(None, [gate.sentence if gate else "none ran", self._decision.stale])),
            live=swap.target,
            # After a rollback each slot's own encoder, or its student, makes its queries again.
            previous=before.live.without_temporary_queries(),
            previous_search=before.search,
            search=swap.search,
            swap=None,
            behind=(),
        )
        # Storage first: a kill after the write would leave vectors with storage that the metadata does not say.
        set_shared_storage(self._handle, before.live, after.live)
        write(self._handle.client, self._handle.name, before, after)
        # Only the checkpoints go: the lease is held until what can be dropped at once is dropped, so that no other swap
        # begins in between.
        self._context.lease.clear()
        self._handle.install(after)
        self._backfill.repair(after, after.live)  # points written by populates that read the metadata before
        self._left = drop_orphans(self._handle.client, self._handle.name, self._handle.read())
        replaced = before.live.vectors() - after.live.vectors()
        return replace(self._report("cut over", gate), kept=tuple(sorted(replaced)))

    def _optimize(self) -> None:
        with phase("optimise the store"):
            warning = optimized(self._handle.client, self._handle.name)
        if warning:
            self._context.warnings.append(warning)

    def _report(self, outcome: str, gate: GateReport | None = None) -> ApplyReport:
        return ApplyReport(
            collection=self._handle.name,
            outcome=outcome,
            encoded=dict(self._backfill.encoded),
            cache_hits={vector: hits for vector, hits in self._backfill.cache_hits.items() if hits},
            changed=self._backfill.filled.changed,
            left=self._backfill.left_shown,
            missing=len(self._backfill.filled.left),
            gate=gate,
            dropped=generation_names(self._left.dropped),
            retired=generation_names(self._left.waiting),
            seconds=time.perf_counter() - self._started,
            warnings=(*self._context.warnings, *(self._handle.cache.take_warnings() if self._handle.cache else ())),
        )
