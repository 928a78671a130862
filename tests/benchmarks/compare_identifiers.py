"""Keyword search in program code, with and without the parts of names, on Qdrant Edge, in one run.

    python tests/benchmarks/compare_identifiers.py

The documents are functions of this Python's standard library without their docstrings, and the queries the first
paragraphs of these docstrings; each is answered by its own function. Prints nDCG@10 and the paired 95% interval.
"""

from __future__ import annotations

import ast
import platform
import random
import sysconfig
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

from compare_lexical_adapters import answers, fill_bm25
from diptych.evaluate import Qrels, compare, evaluate
from diptych.types import Run
from diptych_adapters.lexical import Bm25
from diptych_edge import EdgeClient

QUERIES, LEAST_WORDS = 500, 4
LEFT_OUT = {"test", "tests", "site-packages", "idlelib", "lib2to3"}
ENCODERS = {"words": Bm25(), "and parts of names": Bm25(identifiers=True)}


def main() -> None:
    """Print one line for each encoder."""
    documents, sentences = functions(Path(sysconfig.get_path("stdlib")))
    chosen = random.Random(0).sample(sorted(sentences), QUERIES)
    qrels = Qrels({name: {name: 1} for name in chosen})
    queries = [(name, sentences[name]) for name in chosen]
    evaluations = []
    for name, encoder in ENCODERS.items():
        with tempfile.TemporaryDirectory() as path:
            client = EdgeClient(path)
            ask = fill_bm25(encoder, client, list(documents.values()))
            rankings, _ = answers(client, ask, list(documents), queries)
            client.close()
        evaluations.append(evaluate(Run(name, rankings), qrels, ["nDCG@10"]))
    print(f"Python {platform.python_version()}: {len(documents)} functions, {len(queries)} queries")
    gain = compare(evaluations, "words", "nDCG@10").of("and parts of names")
    for found in evaluations:
        print(f"{found.name:>20} {found.means['nDCG@10']:.3f}")
    print(f"{'gain':>20} {gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]")


def functions(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """The code of each function without docstrings, and the first paragraph of its docstring, by path and name."""
    documents, sentences = dict[str, str](), dict[str, str]()
    for path in sorted(folder.rglob("*.py")):
        place = path.relative_to(folder)
        if not LEFT_OUT.intersection(place.parts):
            nodes = {f"{place}:{node.name}:{node.lineno}": node for node in _functions_of(path)}
            for key, node in nodes.items():
                docstring = ast.get_docstring(node)
                if docstring is not None:
                    node.body = node.body[1:] or [ast.Pass()]
                    sentence = docstring.partition("\n\n")[0].replace("\n", " ")
                    if len(sentence.split()) >= LEAST_WORDS:
                        sentences[key] = sentence
            documents |= {key: ast.unparse(node) for key, node in nodes.items()}
    return documents, sentences


def _functions_of(path: Path) -> Iterator[ast.FunctionDef]:
    with warnings.catch_warnings(action="ignore"):
        tree = ast.parse(path.read_text("utf-8", errors="replace"))
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


if __name__ == "__main__":
    main()
