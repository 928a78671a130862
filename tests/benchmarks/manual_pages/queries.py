"""Known-item queries of what a model of 256 tokens does not read: each has one page, and one paragraph, as its answer.

Three kinds, by fixed rules and without a model:

- `sentence`: the first sentence of what an option (else a paragraph) says, as it stands. An encoder that reads the
  paragraph finds nearly the same words there, which flatters every method that reads it.
- `keywords`: every second content word of the same sentence, in lower case and without stop words.
- `heading`: the heading of a section, of three words or more.

A query is left out if it names its page or its option, and if any six words of it in a row (all of them, if it has
fewer) are in another page or in what the model does read of its own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bm25s.stopwords import STOPWORDS_EN_PLUS  # type: ignore[import-untyped] # it has no types
from tokenizers import Tokenizer

from manual_pages.pages import Block, Page

READ = 256  # tokens that the model reads
RUN = 6  # words in a row that must be nowhere else
SENTENCE = (10, 40)  # words of a sentence that is a query
HEADING = (3, 10)
CONTENT = 7  # content words that it has at least
DRAWN = 4  # candidates of a page and kind, of which the first that is nowhere else becomes a query
PROSE = frozenset({"description", "paragraph"})
WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class KnownItem:
    """A query, the page that it was made from, and where that page answers it, in characters of its text."""

    kind: str
    text: str
    document: str
    paragraph: tuple[int, int]
    sentence: tuple[int, int]  # the first one of the paragraph


def known_items(pages: Mapping[str, Page], tokenizer: Tokenizer, *, most: int, seed: int = 0) -> list[KnownItem]:
    """At most `most` pages' sentences, their keywords, and half as many headings; at most one of each kind a page."""
    draw = random.Random(seed)
    unread = {name: _unread(page, tokenizer) for name, page in pages.items()}
    found: list[KnownItem] = []
    for kind, candidates, count in (("sentence", _sentences, most), ("heading", _headings, most // 2)):
        drawn = {name: _some(candidates(name, page, unread[name]), draw) for name, page in pages.items()}
        elsewhere = _elsewhere(drawn, pages, unread)
        kept = [item for items in drawn.values() for item in items if not elsewhere & _runs(item.text)]
        first = list({item.document: item for item in reversed(kept)}.values())
        draw.shuffle(first)
        chosen = sorted(first[:count], key=lambda item: item.document)
        found += chosen
        if kind == "sentence":
            found += [_keywords(item) for item in chosen]
    return found


def words(text: str) -> list[str]:
    """The words of a text in lower case."""
    return [word.lower() for word in WORD.findall(text)]


def _unread(page: Page, tokenizer: Tokenizer) -> int:
    """The first character of the page's text that the model cannot read, even if it is given no title."""
    offsets = tokenizer.encode(page.text, add_special_tokens=False).offsets
    return int(offsets[READ][0]) if len(offsets) > READ else len(page.text)


def _some(candidates: Iterable[KnownItem], draw: random.Random) -> list[KnownItem]:
    every = list(candidates)
    return draw.sample(every, min(DRAWN, len(every)))


def _sentences(name: str, page: Page, unread: int) -> Iterator[KnownItem]:
    """First sentences of descriptions, or of other paragraphs if a page has no descriptions."""
    every = [(before, block) for before, block in pairwise(page.blocks) if block.start > unread]
    described = [(before, block) for before, block in every if block.kind == "description" and _is_term(before)]
    for before, block in described or [(before, block) for before, block in every if block.kind == "paragraph"]:
        sentence = _first_sentence(block.text)
        own = words(sentence)
        named = {word for word in words(before.text) if len(word) > 2} if described else set()
        if _fits(own, SENTENCE) and len(_content(own)) >= CONTENT and not set(own) & (named | _names(name)):
            yield _item("sentence", sentence, name, block)


def _headings(name: str, page: Page, unread: int) -> Iterator[KnownItem]:
    for block, after in pairwise(page.blocks):
        own = words(block.text)
        fits = _fits(own, HEADING) and len(_content(own)) > 1 and not set(own) & _names(name)
        if fits and block.kind == "heading" and after.kind in PROSE and block.start > unread:
            yield _item("heading", block.text.lstrip("# "), name, after)


def _item(kind: str, text: str, name: str, block: Block) -> KnownItem:
    end = block.start + len(_first_sentence(block.text))
    return KnownItem(kind, text, name, (block.start, block.end), (block.start, end))


def _keywords(item: KnownItem) -> KnownItem:
    kept = " ".join(_content(words(item.text))[::2])
    return KnownItem("keywords", kept, item.document, item.paragraph, item.sentence)


def _is_term(block: Block) -> bool:
    return block.kind == "term" or (block.kind == "paragraph" and len(block.text) < 100)


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text, maxsplit=1)[0]


def _names(name: str) -> set[str]:
    """Words that name a page: `git-add` and its parts, unless they are as common as `add`."""
    stem = name.rpartition("/")[2].rpartition(".")[0].lower()
    return {stem, *(word for word in words(stem) if len(word) > 3)}


def _content(own: Sequence[str]) -> list[str]:
    return [word for word in own if len(word) > 2 and word not in STOPWORDS_EN_PLUS and not word.isdigit()]


def _fits(own: Sequence[str], limits: tuple[int, int]) -> bool:
    return limits[0] <= len(own) <= limits[1]


def _runs(text: str) -> set[tuple[str, ...]]:
    own = words(text)
    size = min(RUN, len(own))
    return set(zip(*(own[start:] for start in range(size)), strict=False))


def _elsewhere(
    drawn: Mapping[str, Sequence[KnownItem]], pages: Mapping[str, Page], unread: Mapping[str, int]
) -> set[tuple[str, ...]]:
    """Runs of the candidates' words that are in another page too, or in what is read of their own."""
    owners: dict[tuple[str, ...], str] = {}
    found: set[tuple[str, ...]] = set()
    for items in drawn.values():
        for item in items:
            for run in _runs(item.text):
                if owners.setdefault(run, item.document) != item.document:
                    found.add(run)
    sizes = {len(run) for run in owners}
    for name, page in pages.items():
        own, read = words(page.text), words(page.text[: unread[name]])
        for size in sizes:
            found |= {run for run in _windows(own, size) if owners.get(run, name) != name}
            found |= {run for run in _windows(read, size) if run in owners}
    return found


def _windows(own: Sequence[str], size: int) -> Iterator[tuple[str, ...]]:
    return zip(*(own[start:] for start in range(size)), strict=False)
