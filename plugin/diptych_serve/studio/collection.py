"""A collection as it records itself: the timeline of its swap, who made its vectors, and what needs attention.

Another process's swap is seen too. The only thing that Studio may change is to roll back, where the service allows
writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from diptych import Collection
from diptych.display import moment
from diptych.errors import CollectionNotFound
from diptych.metadata.models import CollectionMetadata, Event, Generation, State
from diptych.metadata.store import stored_unread
from diptych.reports import UnreadTokens
from diptych.slots.unread import unread_warnings
from diptych.stores.versions import DiskUse, disk_use, version_warnings
from diptych.swap import Status, SwapStatus, state_token, status
from diptych.swap.changes import compared
from diptych_serve.studio.answers import CollectionAnswer, SwapState, SwapStep, VectorRow
from diptych_serve.studio.sides import beside, encoder, maker, own_options, rolled_back, sides_of

RECORDED = ("slot", "vector", "adapter", "model", "points", "missing", "asking", "fingerprint")  # of a `VectorStatus`


def described(collection: Collection, *, writes: bool) -> CollectionAnswer:
    """What a collection records and counts of itself. Loads no encoder.

    Args:
        collection: which may not be filled yet.
        writes: whether a rollback may be asked for.
    """
    handle = collection.handle
    try:
        metadata, found = handle.read(), status(handle)
    except CollectionNotFound:
        sentence = "the collection is not filled yet: diptych populate SOURCE"
        return CollectionAnswer(state="none", sentence=sentence, notes=[], reason=sentence)
    state, sentence = _state(metadata, found)
    unread, used = stored_unread(handle.client, handle.name), disk_use(handle.client, handle.name)
    return CollectionAnswer(
        state=state,
        sentence=sentence,
        documents=found.documents,
        bytes=used.total if used else None,
        notes=_notes(collection, found, unread),
        steps=_steps(metadata, found),
        vectors=_vectors(collection, metadata, found, unread, used),
        history=found.history,
        reason=_reason(metadata, found, writes=writes),
        rollback=_rollback(metadata),
        forward=rolled_back(metadata),
        seen=state_token(metadata),
    )


def _state(metadata: CollectionMetadata, found: Status) -> tuple[SwapState, str]:
    """What goes on, as a word and in a sentence with what to do."""
    swap, last = found.swap, _last(found.history)
    if swap is not None and swap.running:
        doing = "the new vectors are complete, and the gate compares" if swap.filled else "the new vectors are filled"
        heard = f"{swap.holder} applies it, last heard of {moment(swap.last_heard)}"
        return ("gate" if swap.filled else "filling"), f"a swap is under way: {doing}; {heard}"
    if swap is not None:
        why = f"the gate refused it: {swap.refused}" if swap.refused else "no process applies it"
        return "stopped", f"a swap is under way, but {why}; to continue: diptych apply; to abandon it: roll back"
    if metadata.previous is not None:
        forward = "gone forward again" if last and last.what == "rolled back" else "cut over"
        what = "rolled back" if rolled_back(metadata) else forward
        when = f" {moment(last.when)}" if last else ""
        return "kept", f"{what}{when}; {_kept(metadata, metadata.previous)}"
    if last is not None:
        return "none", f"no swap is under way; the last one was {last.what} {moment(last.when)}"
    return "none", "no encoder was ever swapped here; to swap one: edit the config, then diptych plan and diptych apply"


def _kept(metadata: CollectionMetadata, before: State) -> str:
    """What a rollback can return to."""
    if before.vectors() - metadata.live.vectors():
        return "the other generation is kept until diptych finish drops it"
    added = [name for name in metadata.live.slots if name not in before.slots]
    how = f"without {' and '.join(added)}" if added else "with the earlier settings"
    return f"no vectors were replaced, and a rollback searches {how} again, until diptych finish"


def _steps(metadata: CollectionMetadata, found: Status) -> list[SwapStep]:
    """Plan, back-fill, gate and cut-over of the swap under way, else of the one whose other generation is kept."""
    if (swap := found.swap) is not None:
        plan = SwapStep(name="plan", state="done", text=_planned(metadata, swap.began, swap.by, swap.why))
        last = SwapStep(name="cut-over", state="waiting", text="after the gate")
        return [plan, _filling(found, swap), _gate(swap), last]
    cut = next((event for event in reversed(found.history) if event.what == "cut over"), None)
    if metadata.previous is None or cut is None:
        return []
    began = next((event for event in reversed(found.history) if event.what == "began"), cut)
    gate: Literal["failed", "done"] = "failed" if cut.gate.startswith(("worse", "undecided")) else "done"
    back, text, count = None, f"live since {moment(cut.when)}", found.documents
    if rolled_back(metadata) and (back := _last(found.history)) is not None:
        text = f"was live from {moment(cut.when)}; rolled back {moment(back.when)}"
    return [
        SwapStep(name="plan", state="done", text=_planned(metadata, began.when, began.by, began.why or cut.why)),
        SwapStep(name="back-fill", state="done", text="the new vectors are complete", done=count, total=count),
        SwapStep(name="gate", state=gate, text=cut.gate or "what it said is not recorded"),
        SwapStep(name="cut-over", state="undone" if back else "done", text=text),
    ]


def _planned(metadata: CollectionMetadata, when: str, by: str, why: str) -> str:
    """What the plan changes, who began it, and why."""
    return f"{_changes(metadata)}; begun {moment(when)} by {by}{f': {why}' if why else ''}"


def _filling(found: Status, swap: SwapStatus) -> SwapStep:
    """The back-fill: vectors that are there, of all that there will be."""
    building = [vector for vector in found.vectors if vector.role == "building"]
    total = sum(vector.points for vector in building)
    done = total - sum(vector.missing for vector in building)
    state: Literal["done", "running", "waiting"] = "running"
    text = f"filling {', '.join(vector.vector for vector in building)}"
    if swap.filled:
        left = f"{total - done:,} have nothing that the new encoder reads"
        state, text = "done", left if done < total else "the vectors are there"
    elif not swap.running:
        state, text = "waiting", f"stopped: no process fills them; {swap.holder or 'nobody'} was the last"
    return SwapStep(name="back-fill", state=state, text=text, done=done, total=total)


def _gate(swap: SwapStatus) -> SwapStep:
    if swap.filled and swap.running:
        return SwapStep(name="gate", state="running", text="the new pipeline is compared with the old one")
    if swap.refused and not swap.running:
        return SwapStep(name="gate", state="failed", text=f"refused {moment(swap.refused_at)}: {swap.refused}")
    text = "diptych apply runs it" if swap.filled else "after the back-fill"
    return SwapStep(name="gate", state="waiting", text=text)


def _vectors(
    collection: Collection,
    metadata: CollectionMetadata,
    found: Status,
    unread: Mapping[str, UnreadTokens],
    used: DiskUse | None,
) -> list[VectorRow]:
    """Each vector with who made it, how its options differ, and the side by which it can be searched."""
    known = {side.id for side in sides_of(collection)}
    made, rows = metadata.written(), []
    for vector in found.vectors:
        slot, generation = made[vector.vector]
        side = f"slot:{vector.slot}" if vector.role == "live" else f"generation:{vector.vector}"
        sizes = [used.vectors[name] for name in generation.vectors if name in used.vectors] if used else []
        rows.append(
            VectorRow(
                **{name: getattr(vector, name) for name in RECORDED},
                generation=vector.number,
                options=own_options(generation, beside(metadata, slot, generation)),
                state="kept, behind" if vector.behind else vector.role,
                side=side if side in known else None,
                canaries=_canaries(collection, vector.slot, generation),
                unread=str(unread[vector.vector]) if vector.vector in unread else "",
                bytes=sum(sizes) if sizes else None,
            )
        )
    return rows


def _canaries(collection: Collection, slot: str, generation: Generation) -> str:
    """What is known of the encoder's identity, without loading it."""
    if generation.canaries is None:
        return "none recorded" if generation.kind != "text_index" else "none needed: the store indexes the words"
    now = collection.handle.slots.get(slot)
    likeness = now.likeness if now is not None and now.generation == generation else None
    if likeness is None:
        return f"{len(generation.canaries.query)} recorded, compared before the encoder first serves"
    return f"the encoder makes the same vectors: lowest cosine {likeness.lowest:.4f}"


def _notes(collection: Collection, found: Status, unread: Mapping[str, UnreadTokens]) -> list[str]:
    """What a user should look at, each with what to do; one sentence where there is nothing."""
    live = [vector for vector in found.vectors if vector.role == "live"]
    said = [
        f"slot {vector.slot!r}: {vector.missing:,} of {vector.points:,} documents have no vector, and it does not find "
        "them: diptych apply fills what can be filled"
        for vector in live
        if vector.missing
    ]
    said += unread_warnings({vector.slot: unread[vector.vector] for vector in live if vector.vector in unread})
    behind = [vector.vector or vector.slot for vector in found.vectors if vector.behind]
    said += [f"{name} misses documents that a populate could not write" for name in behind]
    if found.orphans:
        said.append(f"no generation uses {', '.join(found.orphans)}; the next finish, apply or populate drops them")
    kinds = [slot.kind for slot in collection.handle.slots.values()]
    said += version_warnings(collection.client, kinds, tenants=collection.handle.view.tenancy is not None)
    return said or ["every document has its vectors, and nothing needs attention"]


def _reason(metadata: CollectionMetadata, found: Status, *, writes: bool) -> str:
    """Why nothing can be rolled back from here; empty if it can."""
    if metadata.swap is None and metadata.previous is None:
        return "there is nothing to roll back to: no earlier generation is kept"
    if found.swap is not None and found.swap.running:
        return f"{found.swap.holder} is applying a swap: stop it first"
    behind = sorted(metadata.previous.vectors() & set(metadata.behind)) if metadata.previous else []
    if metadata.swap is None and behind:
        missed = f"{', '.join(behind)} misses documents that a populate could not write"
        return f"{missed}; to roll back anyway: diptych rollback --anyway"
    if not writes:
        return "Studio only reads: start it with --allow-writes, or run diptych rollback"
    return ""


def _rollback(metadata: CollectionMetadata) -> str:
    """What a rollback would do."""
    if metadata.swap is not None:
        building = ", ".join(generation.vector for generation in metadata.swap.building.values())
        return f"abandon the swap, and drop {building}"
    if metadata.previous is None:
        return ""
    live, before = metadata.live.slots, metadata.previous.slots
    changed = [
        f"generation {own.number} of {name} ({encoder(own, live.get(name))})"
        for name, own in before.items()
        if own != live.get(name)
    ]
    without = " and ".join(name for name in live if name not in before)
    if without and not changed:
        return f"search without {without} again, in one update"
    doing = f"make {' and '.join(changed) or 'the earlier settings'} live again, in one update"
    return f"{doing}; and search without {without}" if without else doing


def _changes(metadata: CollectionMetadata) -> str:
    """What the swap under way, or else the last cut-over, replaced by what, whichever of the two is live now."""
    live, building = metadata.live.slots, metadata.swap.building if metadata.swap else None
    pairs = [(name, live.get(name), generation) for name, generation in (building or {}).items()]
    if building is None and metadata.previous is not None:
        other = metadata.previous.slots
        for name in {**other, **live}:
            states = sorted((own[name] for own in (other, live) if name in own), key=lambda own: own.number)
            if states[0] != states[-1] or len(states) < 2:
                pairs.append((name, states[0] if len(states) == 2 else None, states[-1]))
    return "; ".join(_replaced(*pair) for pair in pairs) or "other settings"


def _replaced(slot: str, old: Generation | None, new: Generation) -> str:
    """A slot's encoders, or the options in which they differ."""
    if old is None or old.adapter != new.adapter or old.options.get("model") != new.options.get("model"):
        return f"{slot}: {maker(old) if old else 'nothing'} -> {maker(new)}"
    return f"{slot}: {maker(new)}, {', '.join(compared(old.options, new.options)) or 'encoded again'}"


def _last(history: Sequence[Event]) -> Event | None:
    """The last event of a swap."""
    swaps = ("cut over", "rolled back", "finished", "abandoned")
    return next((event for event in reversed(history) if event.what in swaps), None)
