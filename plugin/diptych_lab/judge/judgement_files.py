"""The files of a folder of judgements: the log's lines, BEIR's files, and the note of whose documents are judged."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diptych.errors import EvaluationError, brief
from diptych.evaluate import Qrels
from diptych.runtime.plain_files import plain_file
from diptych.types import Query

HIGHEST = 3  # grade: 0 not relevant, 1 related, 2 relevant, 3 exactly what was asked for
LOG, QUERIES, QRELS, MANIFEST = "judgements.jsonl", "queries.jsonl", "qrels/test.tsv", "manifest.json"


def events_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The events of a folder's log, each checked: people edit it by hand.

    Raises:
        EvaluationError: the log cannot be read, or has a line that is not an event.
    """
    for number, line in enumerate(whole_lines(folder / LOG), 1):
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            event = None
        wrong = _wrong(event) if isinstance(event, dict) else (line[:80], "an event as diptych judge writes it")
        if wrong is not None:
            got, expected = wrong
            do = "fix the line, or remove it: then the judge is asked again"
            where = f"{folder / LOG}, line {number}"
            raise EvaluationError("not a judgement", where=where, got=got, expected=expected, do=do)
        yield event


def is_grade(value: object) -> bool:
    """Whether it is a grade: an integer from 0 to 3, or None for a skipped document."""
    return value is None or (type(value) is int and 0 <= value <= HIGHEST)


def _wrong(event: Mapping[str, Any]) -> tuple[str, str] | None:
    """What is wrong with an event, and what is expected instead; None for a valid event."""
    kind = next((name for name in ("agreement", "pool", "undo") if name in event), "grade")
    texts = {"agreement": ("judge",), "pool": ("judge", "query")}.get(kind, ("judge", "query", "document"))
    for name, fits, expected in (*((name, _is_text, "a text") for name in texts), (kind, *_VALUES[kind])):
        if name not in event:
            return f"no {name!r} in {brief(dict(event))}", f"{name!r}: {expected}"
        if not fits(event[name]):
            return f"{name!r}: {brief(event[name])}", expected
    return None


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_pool(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_agreement(value: object) -> bool:
    if not isinstance(value, dict) or not {"kappa", "pairs"} <= value.keys() <= {"kappa", "pairs", "accepted"}:
        return False
    is_measured = type(value["pairs"]) is int and type(value["kappa"]) in (int, float)
    return is_measured and type(value.get("accepted", True)) is bool


_VALUES: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "agreement": (_is_agreement, '{"kappa": NUMBER, "pairs": COUNT, "accepted": true or false}'),
    "pool": (_is_pool, "a list of document ids"),
    "undo": (lambda value: value is True, "true"),
    "grade": (is_grade, f"0 to {HIGHEST}, or null for a skipped document"),
}


def require_collections(folder: Path, names: Sequence[str]) -> None:
    """Raise EvaluationError if the folder's judgements are of other collections than these, or its note cannot be read.

    Judgements know documents by their ids alone, so one of the collections must be noted. A folder without the note, as
    older versions leave it, may be of any.
    """
    known = noted_collections(folder)
    if known is not None and not set(known) & set(names):
        raise EvaluationError(
            "these judgements are of another collection, whose documents may have the same ids",
            where=folder / MANIFEST,
            got=", ".join(names),
            expected=" or ".join(known),
            do="judge in another folder; if both collections hold the same documents, add the name to the file",
        )


def note_collections(folder: Path, names: Sequence[str]) -> None:
    """Note in the folder that documents of these collections are judged, beside those that it names already.

    Args:
        folder: of the judgements.
        names: of the collections that are compared.

    Raises:
        EvaluationError: as `require_collections`, or the note cannot be written.
    """
    require_collections(folder, names)
    known = noted_collections(folder)
    noted = list(dict.fromkeys([*(known or ()), *names]))
    if noted == known:
        return
    with storing(folder):
        text = json.dumps({"collections": noted}, ensure_ascii=False) + "\n"
        if known is not None:
            _write(folder / MANIFEST, text)
        elif not _create(folder / MANIFEST, text):
            note_collections(folder, names)  # another process was faster


def noted_collections(folder: Path) -> list[str] | None:
    """The names of the collections whose documents were judged; None in a folder without the note.

    Raises:
        EvaluationError: the note cannot be read.
    """
    path = folder / MANIFEST
    if not os.path.lexists(path):
        return None
    with storing(folder), open(path, encoding="utf-8", errors="replace", opener=plain_file) as file:
        text = file.read()
    try:
        names = json.loads(text)["collections"]
    except (ValueError, KeyError, TypeError, RecursionError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        do = "fix it, or remove it: the next judging writes it again"
        expected = '{"collections": ["NAME"]}'
        what = "the note of the judged collection cannot be read"
        raise EvaluationError(what, where=path, got=brief(text), expected=expected, do=do)
    return names


def write_beir(folder: Path, queries: Sequence[Query], qrels: Qrels) -> None:
    """Write `queries.jsonl` and `qrels/test.tsv`; of queries with the same id the last counts."""
    write_queries(folder, queries)
    rows = (f"{q}\t{d}\t{grade}\n" for q, grades in qrels.judgements.items() for d, grade in grades.items())
    _write(folder / QRELS, "query-id\tcorpus-id\tscore\n" + "".join(rows))


def write_queries(folder: Path, queries: Sequence[Query]) -> None:
    """Write `queries.jsonl`; of queries with the same id the last counts."""
    known = {query.id: query for query in queries}
    _write(folder / QUERIES, "".join(_query_line(query) for query in known.values()))


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Raise EvaluationError for errors of the file system."""
    try:
        yield
    except OSError as error:
        got, do = error.strerror or type(error).__name__, "make room and let this user write there, then grade it again"
        raise EvaluationError("the judgements cannot be stored", where=folder, got=got, do=do) from error


def append_line(path: Path, line: str) -> None:
    """Append a line in one call, so that processes do not mix theirs; of a failed one nothing stays."""
    with open(path, "ab", buffering=0, opener=plain_file) as stream:
        size, data = os.fstat(stream.fileno()).st_size, line.encode("utf-8", "surrogatepass")
        try:
            if stream.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError:
            stream.truncate(size)
            raise


def whole_lines(path: Path) -> list[str]:
    """The lines of the log. A last line that a kill left incomplete is cut off the file; one of an editor is ended."""
    if not os.path.lexists(path):
        return []
    with storing(path.parent):
        with open(path, "rb", opener=plain_file) as log:
            data = log.read()
        whole, _, rest = data.rpartition(b"\n")
        if rest and _is_json(rest):
            append_line(path, "\n")
            whole = data
        elif rest:
            with open(path, "r+b", opener=plain_file) as stream:
                stream.truncate(len(data) - len(rest))
    return [line for line in whole.decode("utf-8", "replace").split("\n") if line.strip()]


def _is_json(text: bytes) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def stored_queries(path: Path) -> list[Query]:
    """The queries of a file; none if it does not exist."""
    from diptych.evaluate import read_queries

    return read_queries(path) if path.exists() else []


def _query_line(query: Query) -> str:
    facts: dict[str, Any] = {"metadata": dict(query.metadata)} if query.metadata else {}
    facts |= {"media": dict(query.media)} if query.media else {}
    return json.dumps({"_id": query.id, "text": query.text, **facts}, ensure_ascii=False) + "\n"


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    _beside(path, text).replace(path)


def _create(path: Path, text: str) -> bool:
    """Write a file whole, unless there is one already; returns whether it was written."""
    beside = _beside(path, text)
    try:
        os.link(beside, path)  # unlike a rename, it replaces nothing
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    return True


def _beside(path: Path, text: str) -> Path:
    """A file of this process with the text, in the same folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name == Path(QRELS).name and path.parent.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path.parent))
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with open(beside, "w", encoding="utf-8", opener=plain_file) as stream:
        stream.write(text)
    return beside
