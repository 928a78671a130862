"""Makes a test collection of long documents from Debian's manual pages, with known-item queries.

    python tests/benchmarks/make_manual_pages.py --out "$DIPTYCH_DATA/manual-pages"

Needs apt, dpkg and the network, `pip install 'diptych[documents,minilm]'`, and a few minutes. The packages are listed
with their licences in `manual_pages/packages.py`; `manual_pages/queries.py` says how queries are made. Written are

- `corpus.jsonl.gz`, `queries.jsonl`, `qrels/test.tsv` as in BEIR; `metadata` of a query has its kind and where in the
  text of its document the answer is: `paragraph` and `sentence`, each a start and an end in characters;
- `manifest.json`: version, licence and checksum of each package, and the sizes of the collection;
- `copyright/`: what each package says of its licence.

The same versions of the packages give the same files. A page that has less than 500 words or more than 5,000 is left
out. `--packages`, `--documents` and `--queries` make a smaller collection, such as tests/data/manual_pages.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

from platformdirs import user_cache_path

from manual_pages.packages import PACKAGES, READER, Package, fetch_package
from manual_pages.pages import Page, read_page
from manual_pages.queries import KnownItem, known_items
from manual_pages.tokens import minilm_tokens

WORDS = range(500, 5_001)
LEAST_BYTES = 1_500  # compressed; what is smaller has not 500 words


def main() -> None:
    """Fetch, read, and write the collection."""
    options = _options()
    packages = [fetch_package(name, options.packages_folder) for name in (READER, *options.packages.split(","))]
    reader, *shown = packages
    pages = read_pages(shown, reader.folder / "usr/bin/mandoc")
    kept = sorted(random.Random(0).sample(sorted(pages), min(options.documents, len(pages))))
    pages = {name: pages[name] for name in kept}
    items = known_items(pages, minilm_tokens(), most=options.queries)
    write_beir(options.out, pages, items)
    (options.out / "manifest.json").write_text(json.dumps(manifest(packages, pages, items), indent=1) + "\n")
    used = {name.partition("/")[0] for name in pages}
    for package in shown:
        source = package.folder / "usr/share/doc" / package.name / "copyright"
        if package.name in used and source.is_file():
            (options.out / "copyright").mkdir(exist_ok=True)
            shutil.copyfile(source, options.out / "copyright" / package.name)
    print(f"{len(pages):,} documents, {len(items):,} queries in {options.out}")


def read_pages(packages: Iterable[Package], mandoc: Path) -> dict[str, Page]:
    """Pages of the length that is wanted by `package/name`; of pages with the same text the first."""
    found: dict[str, Page] = {}
    texts: set[str] = set()
    for package in packages:
        sources = [file for file in package.sources() if file.stat().st_size >= LEAST_BYTES]
        with ThreadPoolExecutor(2) as pool:
            pages = list(pool.map(partial(read_page, mandoc=mandoc), sources))
        for page in pages:
            if page and len(page.text.split()) in WORDS and page.text not in texts:
                found[f"{package.name}/{page.name}"] = page
                texts.add(page.text)
    return found


def write_beir(folder: Path, pages: Mapping[str, Page], items: Sequence[KnownItem]) -> None:
    """Corpus, queries and judgements; files of the same content are equal byte by byte."""
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    with (folder / "corpus.jsonl.gz").open("wb") as raw, gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        for name, page in pages.items():
            metadata = {"package": name.partition("/")[0]}
            file.write(_line({"_id": name, "title": page.title, "text": page.text, "metadata": metadata}))
    named = [(f"{item.kind}-{number:04}", item) for number, item in enumerate(items)]
    (folder / "queries.jsonl").write_bytes(b"".join(_line(_query(name, item)) for name, item in named))
    rows = "".join(f"{name}\t{item.document}\t1\n" for name, item in named)
    (folder / "qrels/test.tsv").write_text(f"query-id\tcorpus-id\tscore\n{rows}", encoding="utf-8")


def manifest(packages: Sequence[Package], pages: Mapping[str, Page], items: Sequence[KnownItem]) -> dict[str, Any]:
    """What the collection was made of, and its sizes."""
    lengths = [len(page.text.split()) for page in pages.values()]
    by_package = Counter(name.partition("/")[0] for name in pages)
    return {
        "packages": {
            package.name: {
                "version": package.version,
                "licence": PACKAGES.get(package.name, "none of it is kept: it reads the pages"),
                "documents": by_package[package.name],
                "sha256": package.sha256,
            }
            for package in packages
            if by_package[package.name] or package.name == READER
        },
        "documents": len(pages),
        "words": {"median": median(lengths), "mean": round(mean(lengths)), "least": min(lengths), "most": max(lengths)},
        "queries": Counter(item.kind for item in items),
    }


def _query(name: str, item: KnownItem) -> dict[str, Any]:
    metadata = {"kind": item.kind, "paragraph": item.paragraph, "sentence": item.sentence}
    return {"_id": name, "text": item.text, "metadata": metadata}


def _line(row: Mapping[str, Any]) -> bytes:
    return (json.dumps(row, ensure_ascii=False) + "\n").encode()


def _options() -> argparse.Namespace:
    data = os.environ.get("DIPTYCH_DATA")
    cache = user_cache_path("diptych") / "benchmarks"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=(Path(data) if data else cache) / "manual-pages")
    parser.add_argument("--packages", default=",".join(PACKAGES))
    parser.add_argument("--packages-folder", type=Path, default=cache / "debian", help="where packages are kept")
    parser.add_argument("--documents", type=int, default=100_000, help="at most so many, drawn with a fixed seed")
    parser.add_argument("--queries", type=int, default=400, help="sentences at most")
    return parser.parse_args()


if __name__ == "__main__":
    main()
