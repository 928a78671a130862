"""Optimises without blocking: another process builds indexes on a copy, which then replaces the original.

Meanwhile searches and writes go on. Each write goes to the original and into a journal, which is replayed on the copy
before the exchange. The exchange is one atomic replacement of the collection's record, which names the folder of the
data: a crash before it leaves the original with all acknowledged writes, a crash after it the copy with the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

from diptych.errors import StoreError
from diptych_edge.engine import optimizer
from diptych_edge.engine import shard as shards
from diptych_edge.engine.collection import EdgeCollection, new_shard_name
from diptych_edge.engine.folders import remove
from diptych_edge.engine.shard import Journal
from diptych_edge.health import space
from diptych_edge.health.inspection import Findings, begin
from diptych_edge.health.repair import link_data, unlink_data
from diptych_edge.health.wal import allocated, log_end, newest_version, restart_log

OnStage = Callable[[str], None]
STAGES = ("copying", "optimizing", "replaying", "exchanging", "exchanged", "done")
PASSES = 3  # over the journal while writes go on; they wait for the last one


class Optimization:
    """One run. `stage` is its current stage of `STAGES`; `on_stage` is called as each begins."""

    def __init__(self, collection: EdgeCollection, on_stage: OnStage | None = None) -> None:
        self._collection, self._on_stage = collection, on_stage
        self.stage = "waiting"
        self._process: subprocess.Popen[str] | None = None
        self._cancelled, self._starting = False, Lock()

    def run(self) -> bool:
        """Optimise; True when anything was built.

        Raises:
            StoreError: the optimizer failed or was cancelled. The collection is as it was.
        """
        collection = self._collection
        with collection.maintenance:
            source, target = collection.folder / collection.record.shard, collection.folder / new_shard_name()
            try:
                changed = self._build_on_copy(source, target)
            finally:
                # The one that the record does not name: the copy after a failure, the original after the exchange.
                for folder in (source, target):
                    if folder.name != collection.record.shard:
                        remove(folder)
        self._enter("done")
        return changed

    def cancel(self) -> None:
        """End the run as soon as possible; the collection stays as it was."""
        with self._starting:
            self._cancelled = True
            if self._process is not None:
                self._process.kill()

    def _build_on_copy(self, source: Path, target: Path) -> bool:
        needed = 3 * allocated(source) + space.TO_WRITE  # the copy, its new index, and the old one for a moment
        do = "make room; the collection works without, more slowly"
        space.require_space(source, needed, "to optimise aside", do=do)
        self._enter("copying")
        with self._collection.shard.journaling(lambda: _copy(source, target)) as journal:
            self._enter("optimizing")
            if not self._build(target):
                self._collection.change(lambda record: replace(record, stale=False))
                return False
            self._enter("replaying")
            self._take_over(target, journal)
        return True

    def _take_over(self, target: Path, journal: Journal) -> None:
        """Bring the EdgeShard in `target` up to date and exchange it."""
        unlink_data(target)
        if journal:
            _catch_up(target, journal)
        self._enter("exchanging")
        self._collection.exchange(lambda: self._complete(target, journal))
        self._enter("exchanged")

    def _complete(self, target: Path, journal: Journal) -> Any:
        """The EdgeShard in `target` with the last writes; once the record is changed, it is the collection."""
        edge_shard = shards.load(target)
        try:
            journal.replay(edge_shard)
            edge_shard.flush()
            ledger = begin(target, edge_shard, Findings(None, -1, -1))
            self._collection.change(lambda record: replace(record, shard=target.name, stale=False))
        except BaseException:
            # Once the record names the target, its EdgeShard is the collection's and stays open.
            if self._collection.record.shard != target.name:
                edge_shard.close()
            raise
        self._collection.shard.replace_ledger(ledger)
        return edge_shard

    def _build(self, folder: Path) -> bool:
        """Run the optimizer on `folder`; returns whether it changed anything."""
        with self._starting:
            if self._cancelled:
                raise self._failure("cancelled")
            self._process = _start(folder)
        _, stderr = self._process.communicate()
        if self._cancelled:
            raise self._failure("cancelled")
        if self._process.returncode not in (0, optimizer.UNCHANGED):
            last_line = (stderr.strip().splitlines() or ["no message"])[-1]
            raise self._failure(f"exit code {self._process.returncode}: {last_line}")
        return self._process.returncode == 0

    def _failure(self, got: str) -> StoreError:
        return StoreError(
            "the optimizer did not finish; the collection is as it was",
            where=f"collection {self._collection.record.name!r}",
            got=got,
            do="check memory and disk space, then call optimize() again",
        )

    def _enter(self, stage: str) -> None:
        self.stage = stage
        if self._on_stage is not None:
            self._on_stage(stage)


def _catch_up(target: Path, journal: Journal) -> None:
    """Replay recent writes on the EdgeShard in `target`, so that little is left for the exchange."""
    edge_shard = shards.load(target)
    try:
        for _ in range(PASSES):
            journal.replay(edge_shard)
        edge_shard.flush()
    finally:
        edge_shard.close()


def _start(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-P", str(Path(optimizer.__file__)), str(folder), str(os.getpid())]
    return subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def _copy(source: Path, target: Path) -> None:
    """Copy a flushed shard, with an empty log; vectors are shared until something is written to them."""
    link_data(source, target)
    restart_log(target, max(log_end(source), newest_version(source) + 1))
