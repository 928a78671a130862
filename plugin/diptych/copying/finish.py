"""The end of a copy: the target becomes complete in one update."""

from __future__ import annotations

from diptych.copying import layout
from diptych.copying.begin import require_coherent
from diptych.copying.passes import Pass
from diptych.copying.record import CopyRecord, carried, hash_of
from diptych.copying.side import Side
from diptych.errors import CopyError
from diptych.handle.create import now


def finish(source: Side, target: Side, record: CopyRecord, extra: layout.Extra = layout.NO_EXTRA) -> None:
    """Let the target say what its vectors are: before this nobody can open it, after it everybody can.

    Raises:
        CopyError: a swap began in the source meanwhile; or the target does not keep the metadata.
    """
    info = source.info()
    require_coherent(source, info)
    layout.require_same(source, target, info, target.info(), extra)
    wanted = carried(info.config.metadata or {})
    done = {"stage": "done", "metadata": hash_of(wanted), "finished": now()}
    gone = dict.fromkeys(carried(target.metadata()).keys() - wanted.keys())
    target.note({**gone, **wanted, **record.model_copy(update=done).payload()})
    if hash_of(target.metadata()) != hash_of(wanted):
        raise CopyError("the target does not keep the metadata that it is given", where=target)


def require_unchanged(target: Side, record: CopyRecord, found: Pass) -> None:
    """Raise CopyError when the target, a finished copy, was changed since: bringing the source over would undo that."""
    if record.digest is None:
        got = "it was copied without verification, so what was changed there since cannot be told"
    elif str(found.digest) != record.digest:
        got = "its points are not those that were copied"
    elif hash_of(target.metadata()) != record.metadata:
        got = "what it says about itself is not what was copied"
    else:
        return
    examples = "; ".join(map(str, found.examples))
    raise CopyError(
        "the target went its own way since it was copied",
        where=target,
        got=f"{got}; it differs from the source: {examples or 'in its metadata'}",
        do="copy under another name: --as NAME; or take the source's points all the same: --overwrite",
        examples=tuple(found.examples),
    )
