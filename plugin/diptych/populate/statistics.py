"""Corpus statistics: summed for calibrated encoders, and later compared with those in the collection."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from diptych.errors import DiptychError, PopulateError
from diptych.handle.collection_handle import CollectionHandle
from diptych.populate.read_ahead import batched
from diptych.populate.rejects import reason_of
from diptych.populate.validate import Item
from diptych.protocols import Calibrated, Statistics
from diptych.runtime.panics import contained
from diptych.slots.slot import Slot

BATCH = 256  # texts measured in one call
TOLERANCE = 0.10  # relative change of an average that is worth a warning
FEWEST = 300  # documents of a collection from which on it is: the average of fewer moves with each of them


class Measure:
    """Adds up `encoder.measure` of each of `slots` over the items that pass through."""

    def __init__(self, slots: Mapping[str, Slot]) -> None:
        self.slots = slots
        self.sums: dict[str, dict[str, float]] = {name: {} for name in slots}

    def watch(self, items: Iterable[Item]) -> Iterator[Item]:
        """The same items, measured as they pass."""
        if not self.slots:
            yield from items
            return
        with_text = False
        for batch in batched(items, BATCH):
            texts = [item.input for item in batch if item.input]  # of media alone there is nothing to measure
            with_text = with_text or bool(texts)
            self._add(texts)
            yield from batch
        if not with_text:  # an encoder needs some average to start with; `plan` reports when later texts shift it
            self._add([""])

    def _add(self, inputs: list[str]) -> None:
        for name, slot in self.slots.items():
            self.sums[name] = summed(self.sums[name], slot, inputs)


def summed(sums: Statistics, slot: Slot, inputs: list[str]) -> dict[str, float]:
    """The sums with those of `inputs` added.

    Raises:
        PopulateError: the encoder cannot measure the inputs.
    """
    try:
        with contained(PopulateError, "an encoder crashed while it measured the corpus", where=slot.where):
            more: Statistics = slot.encoder.measure(inputs)
    except DiptychError:
        raise
    except Exception as error:
        raise PopulateError("an encoder cannot measure the corpus", where=slot.where, got=reason_of(error)) from error
    return {key: sums.get(key, 0.0) + more.get(key, 0.0) for key in {**sums, **more}}


def shift(then: Statistics, now: Statistics, points: int) -> dict[str, float]:
    """Relative change of each average per document since the collection was calibrated.

    Documents of the collection that were not measured now, `points` less the measured ones, are taken at their old
    average: a few short documents added to a large collection are no shift.
    """
    before, measured = then.get("documents", 0.0), now.get("documents", 0.0)
    if not before or not measured:
        return {}
    unread = max(0.0, points - measured)
    result = {}
    for key in then:
        average = then[key] / before
        if key != "documents" and average:
            result[key] = (now.get(key, 0.0) + unread * average) / (measured + unread) / average - 1
    return result


def shift_warnings(slots: Mapping[str, Slot], sums: Mapping[str, Statistics], points: int) -> list[str]:
    """A sentence for each average that has moved by more than the tolerance; none while there are few documents."""
    found = []
    for name, slot in slots.items() if points >= FEWEST else ():
        then = slot.generation.statistics if slot.generation else None
        for key, change in shift(then or {}, sums[name], points).items():
            if abs(change) > TOLERANCE:
                found.append(
                    f"slot {name!r}: the average of {key!r} per document is {abs(change):.0%} "
                    f"{'higher' if change > 0 else 'lower'} than when the collection was calibrated; the weights of "
                    "its vectors still use the old one. `diptych plan` shows what it costs to recalibrate, `diptych "
                    "apply` does it."
                )
    return found


def calibrated(handle: CollectionHandle) -> dict[str, Slot]:
    """The slots whose encoders need corpus statistics; in a new collection their encoders are created here."""
    slots = {
        name: slot for name, slot in handle.view.slots.items() if not slot.generation or slot.generation.statistics
    }
    return {name: slot for name, slot in slots.items() if isinstance(slot.encoder, Calibrated)}
