"""`pytest --workers 3`: tests in processes that are forked once every test is collected.

Collecting the tests imports PyTorch and three frameworks. Workers that are started afresh, as by pytest-xdist, each do
that again; forked ones share what the first process has imported. A worker takes one group of tests after another: the
tests of a file, or a single slow test that shares no fixture with others. A worker that dies costs the test that it
ran; another one goes on with the rest of its group.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn, cast

import pytest

SHARED_SCOPES = ("module", "class", "package")
PLACE = 4  # bytes of a group's place in the queue


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--workers", type=int, default=0, help="run the tests in so many forked processes")


def pytest_configure(config: pytest.Config) -> None:
    if count := config.getoption("--workers"):
        config.pluginmanager.register(ForkedWorkers(config, count), "forked-workers")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without garbage collection: what is made stays, and searching it would take a quarter of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def groups_of(items: Sequence[pytest.Item]) -> list[list[pytest.Item]]:
    """The tests that belong together, those first that take longest."""
    groups = [list(own) for _, own in groupby(items, key=_group)]
    return sorted(groups, key=lambda own: not any(_is_long(item) for item in own))


def _group(item: pytest.Item) -> str:
    alone = (item.get_closest_marker("slow") or item.get_closest_marker("long")) and not _shares_fixtures(item)
    return item.nodeid if alone else item.nodeid.partition("::")[0]


def _is_long(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("slow")
    return marker is not None and bool(marker.kwargs.get("first"))


def _shares_fixtures(item: pytest.Item) -> bool:
    definitions = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009 - pytest keeps it to itself
    return any(own.scope in SHARED_SCOPES for several in definitions for own in several)


@dataclass
class Worker:
    """A worker as its parent sees it."""

    pid: int
    events: Connection
    group: list[pytest.Item] = field(default_factory=list)  # what it has not yet ended
    finished: bool = False

    def died(self) -> str:
        _, status = os.waitpid(self.pid, 0)
        return f"exit code {os.waitstatus_to_exitcode(status)}"


class ForkedWorkers:
    """Runs the tests of a session in worker processes and reports what they report."""

    def __init__(self, config: pytest.Config, count: int) -> None:
        self.config, self.count = config, count
        self.workers: list[Worker] = []
        self.started = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        if self.config.option.collectonly or session.testsfailed:
            return None
        self.session, self.groups = session, groups_of(session.items)
        self.queue, into = os.pipe()
        os.write(into, b"".join(place.to_bytes(PLACE, "big") for place in range(len(self.groups))))
        os.close(into)
        if terminal := cast(Any, self.config.pluginmanager.get_plugin("terminalreporter")):
            terminal.showfspath = False  # files come in turns
        gc.collect()
        gc.freeze()  # what is collected stays: no worker looks through it or copies it again
        try:
            for _ in range(min(self.count, len(self.groups))):
                self._start([])
            self._listen()
        finally:
            gc.unfreeze()  # or libraries tell at the end of what was left
            self._stop()
        return True

    def _start(self, rest: list[pytest.Item]) -> None:
        self.started += 1
        ours, theirs = Pipe(duplex=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: those of OpenBLAS mind a fork
            pid = os.fork()
        if pid == 0:
            work(self.session, self.started, theirs, self._taken(rest))
        theirs.close()
        self.workers.append(Worker(pid, ours, rest))

    def _taken(self, rest: list[pytest.Item]) -> Iterator[tuple[int, list[pytest.Item]]]:
        """What a worker runs: a rest that another left, then group after group as long as there are any."""
        if rest:
            yield -1, rest
        while place := os.read(self.queue, PLACE):
            yield int.from_bytes(place, "big"), self.groups[int.from_bytes(place, "big")]

    def _listen(self) -> None:
        while running := {worker.events: worker for worker in self.workers if not worker.finished}:
            for events in wait(list(running)):
                worker = running[cast(Connection, events)]
                try:
                    kind, *values = worker.events.recv()
                except EOFError:
                    self._replace(worker)
                else:
                    getattr(self, f"_on_{kind}")(worker, *values)
            if self.session.shouldfail:
                raise self.session.Failed(str(self.session.shouldfail))
            if self.session.shouldstop:
                raise self.session.Interrupted(str(self.session.shouldstop))

    def _on_group(self, worker: Worker, place: int) -> None:
        if place >= 0:
            worker.group = list(self.groups[place])

    def _on_report(self, worker: Worker, data: dict[str, Any]) -> None:
        report = self.config.hook.pytest_report_from_serializable(config=self.config, data=data)
        self.config.hook.pytest_runtest_logreport(report=report)

    def _on_ended(self, worker: Worker, nodeid: str, location: tuple[str, int | None, str]) -> None:
        worker.group.pop(0)
        self.config.hook.pytest_runtest_logfinish(nodeid=nodeid, location=location)

    def _on_done(self, worker: Worker, failure: str) -> None:
        worker.finished = True
        if failure:
            raise RuntimeError(f"a worker's session fixtures did not end\n{failure}")

    def _replace(self, worker: Worker) -> None:
        """A worker has died: its test has failed, and another worker goes on."""
        worker.finished, how = True, worker.died()
        self.workers.remove(worker)
        if worker.group:
            item, *rest = worker.group
            said = f"the worker died while it ran this test: {how}"
            report = pytest.TestReport(item.nodeid, item.location, {}, "failed", said, "call")
            self.config.hook.pytest_runtest_logreport(report=report)
        self._start(rest if worker.group else [])

    def _stop(self) -> None:
        for worker in self.workers:
            if not worker.finished:
                os.kill(worker.pid, signal.SIGTERM)
            os.waitpid(worker.pid, 0)
        os.close(self.queue)


class Reporter:
    """Sends to the parent what a worker's tests report."""

    def __init__(self, config: pytest.Config, events: Connection) -> None:
        self.config, self.events, self.pid = config, events, os.getpid()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if os.getpid() != self.pid:  # a process that the test forked and that came out of it
            os._exit(1)
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        self.events.send(("report", data))

    def pytest_runtest_logfinish(self, nodeid: str, location: tuple[str, int | None, str]) -> None:
        self.events.send(("ended", nodeid, location))


def work(
    session: pytest.Session, number: int, events: Connection, taken: Iterator[tuple[int, list[pytest.Item]]]
) -> NoReturn:
    """Run groups of tests in this process, which is a new worker, and end it."""
    code = 1
    try:
        _become_worker(session.config, number, events)
        for place, items in taken:
            events.send(("group", place))
            for item, following in zip(items, [*items[1:], session], strict=True):
                # The session as the next item: what it holds stays, for the next group.
                item.config.hook.pytest_runtest_protocol(item=item, nextitem=cast(pytest.Item, following))
        events.send(("done", _end_session(session)))
        code = 0
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        atexit._run_exitfuncs()
        os._exit(code)


def _become_worker(config: pytest.Config, number: int, events: Connection) -> None:
    """A terminal, a capture and temporary folders are not shared with the parent."""
    config.pluginmanager.unregister(name="terminalreporter")
    config.pluginmanager.register(Reporter(config, events), "forked-reporter")
    _capture_apart(cast(Any, config.pluginmanager.get_plugin("capturemanager")))
    factory = cast(Any, config)._tmp_path_factory
    factory._basetemp = factory.getbasetemp() / f"w{number}"  # short, since sockets are made in it
    factory._basetemp.mkdir(mode=0o700)


def _capture_apart(manager: Any) -> None:
    """Captured output goes to files of this process; what kept `sys.stderr` at its import goes on writing to it."""
    for capture in (manager._global_capturing.out, manager._global_capturing.err):
        if hasattr(capture, "targetfd"):  # else it is in memory, or nothing is captured
            with tempfile.TemporaryFile(buffering=0) as fresh:
                os.dup2(fresh.fileno(), capture.tmpfile.fileno(), inheritable=False)


def _end_session(session: pytest.Session) -> str:
    """Tear down the fixtures of the session; what went wrong."""
    try:
        session._setupstate.teardown_exact(None)
    except Exception:
        return traceback.format_exc()
    return ""
