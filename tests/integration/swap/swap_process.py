"""A process that works with a collection on a server.

It reads a JSON line for each thing to do, beginning with `use`, and prints one with what came of it. What `serve` and
`write` begin goes on meanwhile.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import cycle
from typing import Any, TypeAlias

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.metadata.payloads import NATIVE
from diptych.swap import ApplyOptions
from diptych.testing import fakes_plugin
from diptych.types import Document, Hit

Answer: TypeAlias = tuple[str, list[tuple[str, float]]]  # the query; text and score of each hit
QUERIES = [f"word{number % 17} number{number}" for number in range(24)]
REGISTRY = Registry(fakes_plugin, installed=False)


def text_of(number: int, version: int) -> str:
    return f"word{number % 17} word{number % 23} number{number} version{version}"


def key_of(url: str) -> str | None:
    """The key of the named server; embedded stores have none."""
    return None if url.startswith("edge:") else os.environ.get("DIPTYCH_TEST_SERVER_KEY")


def configured(url: str, slots: Mapping[str, Any]) -> Config:
    raw = {
        "store": url,
        "api_key": key_of(url),
        "collection": "c",
        "slots": slots,
        "swap": {"gate": {"sample": 8, "unmeasured": 1}},
    }
    return Config.model_validate({**raw, "populate": {"chunk": 16, "retries": 0}})


def opened(url: str) -> Collection:
    """The collection as it is."""
    return Collection.open(url, "c", registry=REGISTRY, api_key=key_of(url))


def answer(query: str, hits: list[Hit]) -> Answer:
    return query, [(hit.document.text, hit.score) for hit in hits]


class Background:
    """Does the same again and again in a thread of its own, until it is stopped."""

    def __init__(self, steps: Iterator[object]) -> None:
        self._over = threading.Event()
        self._steps = steps
        self.errors: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                next(self._steps)
            except Exception as error:
                self.errors.append(f"{type(error).__name__}: {error}")
                return

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


class Serving:
    """Asks one query after another of a collection that is opened as it is."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.answers: list[Answer] = []
        self.work = Background(self._asking())

    def _asking(self) -> Iterator[None]:
        with opened(self._url) as found:
            for query in cycle(QUERIES):
                self.answers.append(answer(query, found.search(query, limit=5)))
                yield

    def told(self) -> dict[str, Any]:
        """The answers since this was last asked, and what went wrong."""
        fresh = list(self.answers)
        del self.answers[: len(fresh)]
        return {"answers": fresh, "errors": self.work.errors}


class Writing:
    """Inserts, updates and deletes; knows which version of each document must be there in the end."""

    def __init__(self, config: Config, start: int) -> None:
        self.expected = dict.fromkeys(range(start), 0)
        self.counts = {"inserted": 0, "updated": 0, "deleted": 0}
        self._config = config
        self.work = Background(self._changing())

    def _changing(self) -> Iterator[None]:
        with Collection.open(self._config, registry=REGISTRY) as found:
            for change in cycle((self._write, self._delete, self._write, self._write, self._synchronize)):
                change(found)
                yield

    def _write(self, found: Collection) -> None:
        known, fresh = sorted(self.expected), max(self.expected) + 1
        turn = self.counts["updated"] * 7
        changed = {known[(turn + 11 * n) % len(known)] for n in range(5)}
        new = {**{n: self.expected[n] + 1 for n in changed}, **dict.fromkeys(range(fresh, fresh + 3), 0)}
        found.populate([Document(str(n), text_of(n, version)) for n, version in new.items()])
        self.expected |= new
        self._count(updated=len(changed), inserted=3)

    def _delete(self, found: Collection) -> None:
        gone = sorted(self.expected)[3::50]
        points: list[Any] = [NATIVE.point_id(Document(str(n), "any"), REGISTRY) for n in gone]
        found.client.delete("c", points)
        self._forget(gone)

    def _synchronize(self, found: Collection) -> None:
        gone = sorted(self.expected)[5::60]
        left = {n: version for n, version in self.expected.items() if n not in gone}
        found.populate([Document(str(n), text_of(n, version)) for n, version in left.items()], sync=True)
        self._forget(gone)

    def _forget(self, gone: list[int]) -> None:
        for number in gone:
            del self.expected[number]
        self._count(deleted=len(gone))

    def _count(self, **more: int) -> None:
        self.counts = {name: count + more.get(name, 0) for name, count in self.counts.items()}

    def told(self) -> dict[str, Any]:
        """How many changes were made, and what went wrong."""
        return {"counts": self.counts, "errors": self.work.errors}


class Process:
    """What can be asked of it."""

    def __init__(self) -> None:
        self._url = ""
        self._work: dict[str, Serving | Writing] = {}

    def use(self, url: str, folder: str) -> dict[str, Any]:
        """Work with this server from now on, and in this folder."""
        for work in self._work.values():
            work.work.stop()
        self._url, self._work = url, {}
        os.chdir(folder)
        return {}

    def populate(self, slots: Mapping[str, Any], size: int) -> dict[str, Any]:
        with Collection.open(configured(self._url, slots), registry=REGISTRY) as found:
            return {"new": found.populate([Document(str(n), text_of(n, 0)) for n in range(size)]).new}

    def apply(self, slots: Mapping[str, Any], cut_over: bool = True) -> dict[str, Any]:
        config = configured(self._url, slots)
        with Collection.stored(config, registry=REGISTRY) as found:
            report = found.apply(config, ApplyOptions(cut_over=cut_over))
        return {"outcome": report.outcome, "encoded": dict(report.encoded)}

    def rollback(self) -> dict[str, Any]:
        with opened(self._url) as found:
            return {"outcome": found.rollback().outcome}

    def finish(self) -> dict[str, Any]:
        with opened(self._url) as found:
            return {"outcome": found.finish().outcome}

    def serve(self) -> dict[str, Any]:
        self._work["serve"] = Serving(self._url)
        return {}

    def write(self, slots: Mapping[str, Any], start: int) -> dict[str, Any]:
        self._work["write"] = Writing(configured(self._url, slots), start)
        return {}

    def tell(self, what: str) -> dict[str, Any]:
        return self._work[what].told()

    def stop(self, what: str) -> dict[str, Any]:
        stopped = self._work.pop(what)
        stopped.work.stop()
        expected = {str(n): text_of(n, v) for n, v in stopped.expected.items()} if isinstance(stopped, Writing) else {}
        return {**stopped.told(), "expected": expected}


def main() -> None:
    process = Process()
    for line in sys.stdin:
        asked = json.loads(line)
        call: Callable[..., dict[str, Any]] = getattr(process, asked.pop("do"))
        try:
            said = call(**asked)
        except Exception as error:
            said = {"failed": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
