"""Hits: a row for each, with its picture, its text with matching words marked, its score and its metadata."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence

from diptych.errors import DiptychError
from diptych.media import Media
from diptych.search import Answers, HitGroups, Hits
from diptych.types import Document, Hit, Query, said
from diptych_lab.notebook.elements import (
    ROWS,
    Content,
    Html,
    foreign,
    join,
    marked,
    note,
    page,
    quiet,
    table,
    tag,
    title,
)

KEYS, VALUE = 8, 60  # metadata keys of a hit, and characters of a value
_PICTURES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}


def hit(value: Hit) -> Html:
    """One hit."""
    return page(join("score ", _number(value.score)), _table([value], {}))


def hits(value: Hits) -> Html:
    """The hits of one query."""
    return page(join(_count(len(value)), *asked(value.query)), *_listed(value))


def answers(value: Answers) -> Html:
    """The hits of several queries below one another."""
    queries = [*value.queries, *[""] * (len(value) - len(value.queries))]
    shown = list(zip(value, queries, strict=False))[:ROWS]
    parts = [join(title(""), join(_count(len(own)), *asked(query)), *_listed(own)) for own, query in shown]
    rest = note(f"and {len(value) - ROWS:,} more queries") if len(value) > ROWS else None
    return page(f"{len(value):,} queries", *parts, rest)


def hitgroups(value: HitGroups) -> Html:
    """The groups of one query, each with its hits."""
    shown = [
        join(tag("div", foreign(str(group.value)), style="font-weight:600;margin:8px 0 2px"), _table(group.hits, {}))
        for group in value[:ROWS]
    ]
    rest = note(f"and {len(value) - ROWS:,} more groups") if len(value) > ROWS else None
    count = "1 group" if len(value) == 1 else f"{len(value):,} groups"
    return page(join(count, *asked(value.query)), *shown, rest)


def excerpt(value: Hit) -> Html:
    """What of the document answers: its best sentence or passage, or its beginning, with matching words marked."""
    text, highlight = value.document.text, value.highlight
    best = highlight.sentence if highlight and highlight.sentence else next(iter(value.passages), None)
    words = highlight.words if highlight else ()
    if best is None:
        return marked(text, words)
    if text[best.start : best.end] != best.text:  # of a group's parent, or of a text that was not asked for
        return foreign(best.text)
    inside = [(begin - best.start, end - best.start) for begin, end in words if best.start <= begin and end <= best.end]
    return marked(best.text, inside)


def heading(document: Document) -> Html:
    """Title and id."""
    named = tag("b", foreign(document.title), " ") if document.title.strip() else None
    return tag("div", named, quiet(tag("code", foreign(document.id), style="background:none;color:inherit;padding:0")))


def _listed(found: Sequence[Hit]) -> Iterable[Html]:
    """The table, and a line about thumbnails that cannot be read."""
    try:
        pictures = found.thumbnails() if isinstance(found, Hits) else {}
    except DiptychError as error:
        return _table(found, {}), note("thumbnails cannot be read: ", foreign(error.what))
    return (_table(found, pictures),)


def _table(found: Sequence[Hit], pictures: Mapping[str, bytes]) -> Html:
    if not found:
        return note("nothing was found")
    rows = [(str(rank), *_picture(own, pictures), _document(own), _score(own)) for rank, own in enumerate(found, 1)]
    return table(["", *([""] if pictures else []), "document", "score"], rows, right=3 if pictures else 2)


def _picture(value: Hit, pictures: Mapping[str, bytes]) -> tuple[Content, ...]:
    """The cell with a hit's thumbnail; no cell where no hit has one."""
    if not pictures:
        return ()
    data = pictures.get(value.id, b"")
    kind = next((kind for magic, kind in _PICTURES.items() if data.startswith(magic)), "")
    if not kind:
        return ("",)
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return (Html(f'<img src="{source}" alt="" style="max-width:96px;max-height:96px;border-radius:4px">'),)


def _document(value: Hit) -> Html:
    document = value.document
    facts = [join(tag("bdi", f"{key}: "), foreign(str(own), limit=VALUE)) for key, own in document.metadata.items()]
    more = f"and {len(facts) - KEYS} more" if len(facts) > KEYS else None
    media = [
        foreign(str(content) if isinstance(content, Media | str) else name) for name, content in document.media.items()
    ]
    small = [tag("span", fact, style="margin-right:12px") for fact in [*media, *facts[:KEYS]]]
    body = tag("div", excerpt(value)) if document.text or value.passages else None
    return join(heading(document), body, tag("div", quiet(*small, more)) if small else None)


def _score(value: Hit) -> Html:
    """The score, and those of single stages."""
    stages = [tag("div", quiet(tag("bdi", name), f" {_number(score)}")) for name, score in value.stages.items()]
    several = len(stages) > 1 or "pinned" in value.stages
    return join(_number(value.score), *(stages if several else ()))


def _number(score: float) -> str:
    return f"{score:.4f}"


def _count(count: int) -> str:
    return f"{count or 'no'} hit{'' if count == 1 else 's'}"


def asked(query: str | Query) -> tuple[Content, ...]:
    """What was asked, for a headline; nothing where it is unknown, as of a search by a vector."""
    words = query if isinstance(query, str) else said(query)
    return (" for “", foreign(words, limit=200), "”") if words else ()
