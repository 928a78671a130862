"""Reads `--filter`, `--where`, media, and the options that name documents: `--like`, `--pin` and others."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diptych.cli.ui.output import printable, stderr
from diptych.errors import MediaError, SearchError

if TYPE_CHECKING:
    from qdrant_client import models

    from diptych.collection.collection import Collection

_TEXT = "text:"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?")  # JSON's, short of infinity


def media_files(image: Path | None, media: Sequence[str]) -> dict[str, bytes]:
    """The bytes of the files given by modality. The user may name any file, not only those below `media.root`.

    Raises:
        SearchError: a part is not MODALITY=FILE, a modality has two files, or a file cannot be read.
    """
    found: dict[str, bytes] = {}
    for part in [*([f"image={image}"] if image else []), *media]:
        modality, equals, name = part.partition("=")
        if not equals or modality in found:
            what = "--media names a modality twice" if equals else "--media is not MODALITY=FILE"
            raise SearchError(what, got=repr(part), expected="such as sound=bell.wav")
        try:
            found[modality] = Path(name).read_bytes()
        except OSError as error:
            raise SearchError(f"the {modality} cannot be read: {error.strerror}", where=name) from error
    return found


@contextmanager
def naming_files(image: Path | None, media: Sequence[str]) -> Iterator[None]:
    """Within the block, an error about a file that `media_files` has read names the file."""
    try:
        yield
    except MediaError as error:
        from diptych.media import Media

        names = dict(part.split("=", 1) for part in [*([f"image={image}"] if image else []), *media])
        name = names.get(error.media.modality) if isinstance(error.media, Media) and not error.media.source else None
        if name is None:
            raise
        raise MediaError(error.what, where=name, got=error.got, expected=error.expected, do=error.do) from error


def parse_filter(text: str | None, where: Sequence[str]) -> models.Filter | None:
    """`--filter` and all of `--where` as one Qdrant filter, None when there is neither.

    Raises:
        SearchError: the JSON is no filter, or a `--where` is not KEY=VALUE.
    """
    if text is None and not where:
        return None
    from qdrant_client import models

    from diptych.search.qdrant.filters import read_filter

    given = [read_filter(text, name="--filter", short="--where section=mail")] if text is not None else []
    return models.Filter(must=[*given, *map(_condition, where)])


def examples_and_pins(
    like: Sequence[str] | None, unlike: Sequence[str] | None, pin: Sequence[str] | None, exclude: Sequence[str] | None
) -> dict[str, Any]:
    """The options of a search for `--like`, `--unlike`, `--pin` and `--exclude`; `text:WORDS` is an example by text."""
    from diptych.types import Query

    def examples(values: Sequence[str] | None) -> list[str | Query]:
        return [Query(value.removeprefix(_TEXT)) if value.startswith(_TEXT) else value for value in values or ()]

    return {"like": examples(like), "unlike": examples(unlike), "pin": pin or None, "exclude": exclude}


def note_missing_keys(
    collection: Collection, filter: models.Filter | None, tenant: str | None, group_by: str | None = None
) -> None:
    """Where nothing was found: say on standard error which keys of the filter or the groups no document has."""
    from diptych.search.filter_keys import group_problem, missing_keys

    view = collection.handle.view
    problems = [printable(problem) for problem in missing_keys(collection.handle, filter, tenant=tenant).values()]
    if group_by is not None and collection.handle.exists and (found := group_problem(view, group_by, tenant=tenant)):
        problems.append(printable(found))
    for problem in problems:
        stderr().print(f"warning: {problem}", style="yellow", soft_wrap=True)


@contextmanager
def without_log_of_missing_keys() -> Iterator[None]:
    """Searches within the block log no warning of filter keys: the command prints its own."""

    def none(record: logging.LogRecord) -> bool:
        return False

    log = logging.getLogger("diptych.search.filter_keys")
    log.addFilter(none)
    try:
        yield
    finally:
        log.removeFilter(none)


def _condition(text: str) -> models.FieldCondition | models.Filter:
    """`KEY=VALUE` as Qdrant compares it. What reads like a number or truth may be text in the documents too."""
    from qdrant_client import models

    from diptych.search.qdrant.filters import equals

    key, value, written = _pair(text)
    ways = [*equals(key, value), *(() if isinstance(value, str) else equals(key, written))]
    return ways[0] if len(ways) == 1 else models.Filter(should=ways)


def _pair(text: str) -> tuple[str, str | int | float | bool, str]:
    """Key, value as JSON reads it, and value as it is written."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise SearchError("--where is not KEY=VALUE", got=text, expected="such as section=mail")
    typed = value in ("true", "false") or _NUMBER.fullmatch(value)
    return key, json.loads(value) if typed else value, value
