"""A process that works with a collection of an embedded store which others have open too.

It reads a JSON line for each thing to do, beginning with `use`, and prints one with what came of it. A thread of its
own asks one query after another meanwhile, and notes in a file when each was asked and answered, or what went wrong.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from itertools import count
from typing import Any, TypeAlias

from diptych import Collection, Registry
from diptych.config.models import Config
from diptych.errors import SwapError
from diptych.metadata.payloads import NATIVE
from diptych.testing import fakes_plugin
from diptych.types import Document

REGISTRY = Registry(fakes_plugin, installed=False)
Asked: TypeAlias = tuple[float, float, str, list[tuple[str, str, float]]]  # begin, end, query, hits: id, text, score


def text_of(number: int, version: int) -> str:
    return f"word{number % 17} word{number % 23} number{number} version{version}"


def key_of(url: str) -> str | None:
    """The key of the named server; embedded stores have none."""
    return None if url.startswith("edge:") else os.environ.get("DIPTYCH_TEST_SERVER_KEY")


def configured(url: str, seed: int) -> Config:
    slots = {"dense": {"adapter": "fake-dense", "dimension": 16, "seed": seed, "delay": 0.002}}
    raw = {"store": url, "api_key": key_of(url), "collection": "c", "slots": slots, "cache": {"enabled": False}}
    return Config.model_validate({**raw, "populate": {"chunk": 16}, "swap": {"gate": {"sample": 8, "unmeasured": 1}}})


class Process:
    """What can be asked of it."""

    def use(self, url: str, log: str) -> dict[str, Any]:
        """Work with this store, and note searches in the file `log`."""
        self._url = url
        self._log = open(log, "a", buffering=1, encoding="utf-8")  # noqa: SIM115 - until the process is killed
        self._found = Collection.open(url, "c", registry=REGISTRY, api_key=key_of(url))
        threading.Thread(target=self._search, daemon=True).start()
        return {}

    def populate(self, documents: dict[str, int]) -> dict[str, Any]:
        """Write these versions of documents."""
        report = self._found.populate([Document(n, text_of(int(n), version)) for n, version in documents.items()])
        return {"set_aside": report.set_aside}

    def delete(self, documents: list[str]) -> dict[str, Any]:
        points: list[Any] = [NATIVE.point_id(Document(n, "any"), REGISTRY) for n in documents]
        self._found.client.delete("c", points)
        return {}

    def swap(self, seed: int) -> dict[str, Any]:
        """Make the encoder of this seed the live one, and drop the vectors of the other."""
        config = configured(self._url, seed)
        with Collection.stored(config, registry=REGISTRY) as found:
            outcome = found.apply(config).outcome
            with suppress(SwapError):  # there is nothing to finish, when that was done before a kill
                found.finish()
        return {"outcome": outcome}

    def _search(self) -> None:
        for number in count():
            query = f"word{number % 17} number{number % 200}"
            begin = time.monotonic()
            try:
                hits = self._found.search(query, limit=5)
            except Exception as error:
                self._note(f"search: {type(error).__name__}: {error}")
                time.sleep(0.2)
                continue
            rows = [(hit.id, hit.document.text, float(hit.score)) for hit in hits]
            self._note((begin, time.monotonic(), query, rows))
            time.sleep(0.05)

    def _note(self, asked: Asked | str) -> None:
        print(json.dumps(asked), file=self._log)


def main() -> None:
    process = Process()
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            said = getattr(process, asked.pop("do"))(**asked)
        except Exception as error:
            said = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
