"""How long searches of Studio take while many people type, and how long its page takes to show what they find.

    python tests/benchmarks/bench_studio.py --clients 20 --seconds 30
    python tests/benchmarks/bench_studio.py --page --rounds 15

Every client types judged queries of debian-mini, a key each 60 to 200 ms, into two sides at once (the whole pipeline by
MiniLM and BM25, and its dense slot), and waits at the end of each query for both answers; each key cancels the search
before. The server is a process.

`--page` drives the page in headless Chromium with two lists of 100 hits, and with 10,000 judged queries that an
evaluation would list. Wall time ends where the browser has painted; beside it stands the processor's time of the page's
main thread, which other processes on the machine hardly change, until all that the action began is done.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from playwright.sync_api import Locator, Page, Route

from diptych import Collection
from diptych.populate import open_source

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from browsing import browsing

DEBIAN = Path(__file__).parents[2] / "examples" / "debian"
CONFIG = """\
store: edge:./qdrant
collection: debian
slots:
  dense: {adapter: sentence-transformers, model: all-MiniLM-L6-v2}
  lexical: {adapter: bm25, language: english}
search: {retrieve: {dense: 100, lexical: 100}}
"""
SIDES = ("pipeline", "slot:dense")
KEYS = (0.06, 0.2)  # seconds between two keys


@dataclass
class Told:
    """What the clients met."""

    seconds: list[float] = field(default_factory=list)
    waited: list[float] = field(default_factory=list)  # for the last key of a query
    cancelled: int = 0
    errors: list[str] = field(default_factory=list)


async def ask(client: httpx.AsyncClient, text: str, side: str, told: Told) -> float:
    began = time.perf_counter()
    try:
        answer = await client.post("/studio/api/search", json={"query": text, "side": side})
    except asyncio.CancelledError:
        told.cancelled += 1
        raise
    except httpx.HTTPError as error:
        told.errors.append(repr(error))
        return 0.0
    if answer.status_code != 200:
        told.errors.append(answer.text[:200])
    told.seconds.append(time.perf_counter() - began)
    return told.seconds[-1]


async def types(url: str, number: int, queries: list[str], end: float, told: Told) -> None:
    chance = random.Random(number)
    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        while time.monotonic() < end:
            query, asked = chance.choice(queries), list[asyncio.Task[float]]()
            for length in range(1, len(query) + 1):
                for task in asked:
                    task.cancel()
                asked = [asyncio.create_task(ask(client, query[:length], side, told)) for side in SIDES]
                await asyncio.sleep(chance.uniform(*KEYS))
            told.waited += await asyncio.gather(*asked)


async def everybody(url: str, clients: int, seconds: float) -> Told:
    lines = gzip.decompress((DEBIAN / "queries.jsonl.gz").read_bytes()).decode().splitlines()
    queries, told = [json.loads(line)["text"] for line in lines], Told()
    end = time.monotonic() + seconds
    await asyncio.gather(*(types(url, number, queries, end, told) for number in range(clients)))
    return told


def under_way(url: str) -> float:
    """Requests that the server still works on, this one included."""
    found = re.search(r"^diptych_requests_in_flight (\S+)", httpx.get(f"{url}/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


def wait_until_ready(url: str) -> None:
    for _ in range(600):
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit("the server does not become ready")


@contextmanager
def serving() -> Iterator[str]:
    """The address of a Studio over debian-mini, in a process of its own, once it is ready."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "diptych.yaml").write_text(CONFIG)
        with Collection.open(Path(folder) / "diptych.yaml") as collection:
            collection.populate(open_source(DEBIAN / "corpus.jsonl.gz"))
        command = [sys.executable, "-m", "diptych", "studio", "--port", "0", "--quiet", "--json"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as server:
            try:
                assert server.stdout is not None
                said = ""
                while not said.endswith("}\n"):
                    said += server.stdout.readline()
                url = json.loads(said)["url"].removesuffix("/studio/")
                wait_until_ready(url)
                yield url
            finally:
                server.terminate()


# Notes when the browser had painted after the last key or click, and after the last change of the view.
WATCH = """
const painted = (then) => requestAnimationFrame(() => {
    const channel = new MessageChannel();  // its message comes after the frame that was just begun
    channel.port1.onmessage = () => then(performance.now());
    channel.port2.postMessage(0);
});
window.bench = {interaction: null, change: 0, began: null};
for (const kind of ["keydown", "click"]) window.addEventListener(kind, (event) => {
    const began = bench.began = event.timeStamp;
    painted((now) => { if (bench.began === began) bench.interaction = now - began; });
}, {capture: true});
const changes = new MutationObserver(() => painted((now) => { bench.change = now; }));
addEventListener("DOMContentLoaded", () => changes.observe(
    document.body, {childList: true, subtree: true, attributes: true, characterData: true}));
window.afterAnswer = (path) => bench.change - Math.max(
    ...performance.getEntriesByType("resource").filter((one) => one.name.endsWith(path)).map((one) => one.responseEnd));
window.scrolled = async (list, step, frames) => {
    const times = [];
    for (let frame = 0; frame <= frames; frame++) {
        list.scrollTop += step;
        times.push(await new Promise(requestAnimationFrame));
    }
    return times.slice(1).map((time, at) => time - times[at]);
};
"""
QUIET = 250  # ms without work of the page, after which an action has ended
FIRST, SECOND = "play chess against the computer", "edit sound files"
HITS, MANY, FRAMES = 100, 10_000, 300


class Bench:
    """The page with its stop-watches; each figure is a list of milliseconds, by what was done."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, f"{url}/studio/"
        self.wall, self.processor = dict[str, list[float]](), dict[str, list[float]]()
        page.set_default_timeout(60_000)
        page.add_init_script(WATCH)
        self.tools = page.context.new_cdp_session(page)
        self.tools.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy(self) -> float:
        """Milliseconds of processor that the main thread has used."""
        metrics = self.tools.send("Performance.getMetrics")["metrics"]
        return 1000 * float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    def settle(self, until: str = "") -> float:
        """Wait until a selector is there and the page has nothing to do any more; its processor's time until then."""
        before = self.busy()
        while True:
            self.page.wait_for_timeout(QUIET)  # a wait for the selector would make the page look for it in each frame
            now = self.busy()
            if now - before < 0.04 * QUIET and (not until or self.page.query_selector(until)):
                return now
            before = now

    def act(self, name: str, action: Callable[[], Any], until: str = "", answer: str = "") -> None:
        """Time what a key or click does until a selector is there, and how long after its answer all is shown."""
        self.page.evaluate("performance.clearResourceTimings(); bench.interaction = bench.began = null")
        began = self.settle()
        action()
        self.processor.setdefault(name, []).append(self.settle(until) - began)
        self.wall.setdefault(name, []).append(self.page.evaluate("bench.interaction"))
        if answer:
            wall = self.page.evaluate("path => afterAnswer(path)", answer)
            self.wall.setdefault(f"{name}: answer to painted", []).append(wall)

    def click(self, name: str, found: Locator) -> None:
        """Time a click; where to click is asked before, since that costs the page time too."""
        box = found.bounding_box()
        assert box is not None
        self.act(name, lambda: self.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2))

    def compare(self, rounds: int) -> None:
        page, press = self.page, self.page.keyboard.press
        page.goto(f"{self.url}#/compare?limit={HITS}&q={FIRST}")
        box, shown = page.get_by_label("Query", exact=True), ".columns[aria-busy=false] [data-column=b] .hit"
        for number in range(rounds):
            box.fill(SECOND if number % 2 else FIRST)
            page.wait_for_timeout(300)
            self.settle(shown)
            self.act("last key of a query", lambda: press("s"), shown, answer="/search")
            assert page.locator(".hit").count() == 2 * HITS
            self.act("arrow from the box to a hit", lambda: press("ArrowDown"))
            self.act("arrow from hit to hit", lambda: press("ArrowDown"))
            for _ in range(12):
                press("ArrowDown")
            explained = ".why-side[data-side=a] .parts tfoot"
            self.act("open the explanation", lambda: press("Enter"), explained, answer="/locate")
            self.act("close the explanation", lambda: press("Escape"))
            page.evaluate("scrollTo(0, 0)")
            part = page.locator(".venn-part").nth(number % 3)
            self.click("a part of the Venn bar", part)
            self.click("the same part again", part)

    def queries(self, rounds: int) -> None:
        page = self.page
        page.route("**/studio/api/jobs/*", evaluated)
        page.goto(f"{self.url}#/queries?job=many&a=slot:dense&b=pipeline")
        rows = page.get_by_role("listbox")
        rows.wait_for()
        for _ in range(rounds):
            rows.evaluate("list => { list.scrollTop = 0; }")
            began = self.settle()
            frames = rows.evaluate("(list, [step, frames]) => scrolled(list, step, frames)", [300, FRAMES])
            self.processor.setdefault("frames of scrolling", []).append((self.settle() - began) / FRAMES)
            self.wall.setdefault("frames of scrolling", []).extend(frames)
        for _ in range(rounds):
            self.click("sort 10,000 queries", page.get_by_role("button", name="Gain"))
            page.get_by_role("button", name="Loss").click()


def evaluated(route: Route) -> None:
    """The answer of an evaluation with 10,000 queries."""
    chance = random.Random(1)
    queries = []
    for number in range(MANY):
        a, b = chance.random(), chance.random()
        text = f"{FIRST if number % 2 else SECOND} {number}"
        queries.append(
            {"id": f"q{number}", "text": text, "a": a, "b": b, "difference": b - a, "overlap": chance.random()}
        )
    sides = [
        {"id": name, "label": name, "mean": 0.5, "low": 0.4, "high": 0.6, "milliseconds": 1.0}
        for name in ("slot:dense", "pipeline")
    ]
    result = {
        "metric": "nDCG@10", "verdict": "the sides do not differ", "remarks": [], "sides": sides, "difference": None,
        "queries": queries, "slices": [],
    }  # fmt: skip
    route.fulfill(
        json={"id": "many", "kind": "evaluate", "state": "done", "sentence": "", "result": result, "error": None}
    )


def page_times(url: str, rounds: int) -> None:
    with browsing() as browser:
        bench = Bench(browser.new_page(viewport={"width": 1440, "height": 900}), url)
        bench.compare(rounds)
        bench.queries(rounds)
    print(f"ms: median and worst of {rounds}; load at the end {os.getloadavg()[0]:.1f}")
    for name, wall in bench.wall.items():
        known = bench.processor.get(name)
        told = f"wall {np.median(wall):6.1f} {max(wall):6.1f}"
        print(f"{name:45} {told}" + (f"   processor {np.median(known):6.1f} {max(known):6.1f}" if known else ""))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--page", action="store_true", help="time the page in a browser instead")
    parser.add_argument("--rounds", type=int, default=15, help="of --page")
    given = parser.parse_args()
    with serving() as url:
        if given.page:
            page_times(url, given.rounds)
        else:
            typing_times(url, given.clients, given.seconds)


def typing_times(url: str, clients: int, seconds: float) -> None:
    told = asyncio.run(everybody(url, clients, seconds))
    left = under_way(url) - 1
    middle, slow = np.percentile(1000 * np.array(told.waited), [50, 99])
    print(f"{clients} clients, {seconds:g} s: {len(told.seconds):,} answers")
    print(f"cancelled by the next key: {told.cancelled:,}")
    print(f"errors: {len(told.errors)} {told.errors[:3] or ''}")
    print(f"after the last key of {len(told.waited):,} queries: p50 {middle:.0f} ms, p99 {slow:.0f} ms")
    print(f"requests under way when all had gone: {left:.0f}")


if __name__ == "__main__":
    main()
