"""Keyword search in many languages: what the lexical adapters find of it, on Qdrant Edge, in one run.

    npm pack cldr-annotations-full@48.2.0 && tar xzf cldr-annotations-full-48.2.0.tgz
    python tests/benchmarks/compare_languages.py package/annotations
    python tests/benchmarks/compare_languages.py ROOT  # with ROOT/packages/Translation-*.bz2 (fusion_sets.py)

The documents are the names that Unicode's CLDR gives to emoji in a language, the queries its keywords, and a document
is relevant to each keyword of its emoji. Many keywords are in no name, so figures are low for every method: compare
them within a line. CLDR's data are under the Unicode licence. Of Debian's packages the documents are the translated
descriptions, the queries the lines above them.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeAlias

from compare_lexical_adapters import Ask, answers, fill_bm25, fill_text_index
from diptych.evaluate import Qrels, evaluate
from diptych.types import Run
from diptych_adapters.lexical import Bm25, NGrams, QdrantTextIndex
from diptych_edge import EdgeClient
from fusion_sets import load

LANGUAGES = {
    **{"th": "thai", "lo": "lao", "km": "khmer", "my": "burmese", "zh": "chinese", "ja": "japanese", "ko": "none"},
    **{"en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian", "ru": "russian"},
    **{"fi": "finnish", "hu": "hungarian", "tr": "turkish", "pl": "none", "el": "greek", "ar": "arabic"},
    **{"hi": "hindi", "ta": "tamil"},
}
PACKAGES = ("zh_CN", "ja", "ko", "de", "fr", "es", "it", "pt_BR", "da", "ru", "pl", "cs")
QUERIES = 500
Judgements: TypeAlias = dict[str, dict[str, int]]
Fill: TypeAlias = Callable[[EdgeClient, list[str]], Ask]


def main(folder: Path) -> None:
    """Print one line per language."""
    columns = (
        "language",
        "queries",
        "english",
        "none",
        "its own",
        "multilingual",
        "ngrams 4",
        "ngrams 2-3",
        "text index",
    )
    print("".join(f"{column:>13}" for column in columns))
    packages = (folder / "packages").is_dir()
    for code in PACKAGES if packages else LANGUAGES:
        if packages:
            language, names, relevant = described(folder, code)
        else:
            language, (names, relevant) = LANGUAGES[code], pairs(folder / code / "annotations.json")
        fills: list[Fill] = [
            *(partial(fill_bm25, Bm25(language=own)) for own in ("english", "none", language, "multilingual")),
            *(partial(fill_bm25, NGrams(minimum=low, maximum=high)) for low, high in ((4, 4), (2, 3))),
        ]
        if language not in ("lao", "khmer", "burmese", "hindi"):
            fills.append(partial(fill_text_index, QdrantTextIndex(language=language)))
        means = [f"{quality(names, relevant, fill):.3f}" for fill in fills]
        print("".join(f"{cell:>13}" for cell in (f"{code} {language}", len(relevant), *means)), flush=True)


def pairs(path: Path) -> tuple[list[str], Judgements]:
    """The names, and for each keyword the numbers of those that it is relevant to."""
    annotations = json.loads(path.read_text("utf-8"))["annotations"]["annotations"]
    rows = [(row["tts"][0], row["default"]) for row in annotations.values() if row.get("tts") and row.get("default")]
    relevant: Judgements = defaultdict(dict)
    for number, (name, keywords) in enumerate(rows):
        for keyword in keywords:
            if keyword != name:
                relevant[keyword][str(number)] = 1
    chosen = random.Random(0).sample(sorted(relevant), min(QUERIES, len(relevant)))
    return [name for name, _ in rows], {keyword: relevant[keyword] for keyword in chosen}


def described(folder: Path, code: str) -> tuple[str, list[str], Judgements]:
    """The language, the descriptions of packages, and for each line the numbers of those that it stands above."""
    judged = load(folder, f"packages-{code}")
    relevant: Judgements = defaultdict(dict)
    for number, name in enumerate(judged.documents):
        if name in judged.queries:
            relevant[judged.queries[name]][str(number)] = 1
    return judged.language, list(judged.documents.values()), relevant


def quality(
    names: list[str], relevant: dict[str, dict[str, int]], fill: Callable[[EdgeClient, list[str]], Ask]
) -> float:
    """nDCG@10."""
    with tempfile.TemporaryDirectory() as path:
        client = EdgeClient(path)
        ids = [str(number) for number in range(len(names))]
        rankings, _ = answers(client, fill(client, names), ids, [(keyword, keyword) for keyword in relevant])
        client.close()
    return evaluate(Run("names", rankings), Qrels(relevant), ["nDCG@10"]).means["nDCG@10"]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
