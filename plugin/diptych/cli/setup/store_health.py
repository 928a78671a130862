"""Doctor's checks of what the store holds: `--verify`, `--repair`, and whether documents differ from earlier ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diptych.cli.setup.check_result import Check, failed
from diptych.errors import CollectionNotFound, DiptychError
from diptych.runtime.amounts import moment

if TYPE_CHECKING:
    from diptych.cli.ui.session import Session
    from diptych.collection.collection import Collection
    from diptych.collection.verify import VerifyReport
    from diptych.config import Config
    from diptych.metadata.models import CollectionMetadata
    from diptych.slots.data_shift import DataShift

POPULATE = "diptych populate SOURCE writes what is missing, and encodes nothing that is there"


def repair_store(config: Config, session: Session) -> Iterator[Check]:
    """Rebuild an embedded collection that is refused as damaged. Does nothing for one that opens, or for a server."""
    from diptych.stores import open_store_of

    try:
        client: Any = open_store_of(config, registry=session.registry, create=False)
    except DiptychError:
        return  # the check of the store reports it
    try:
        report = client.repair(config.collection) if hasattr(client, "repair") else None
    except CollectionNotFound:
        return
    except DiptychError as error:
        yield failed("repair", error)
        return
    finally:
        client.close()
    if report is None:
        return
    of = f" of {report.expected:,}" if report.expected is not None else ""
    text = f"the collection was rebuilt with {report.points:,}{of} points"
    unreadable = f"; {report.unreadable_count:,} could not be read" if report.unreadable_count else ""
    kept_text = f"\nthe damaged data are in {report.kept}; remove them when nothing is missed" if report.kept else ""
    yield Check("repair", "ok" if report.complete else "warn", text + unreadable, POPULATE + kept_text)


def verify_store(collection: Collection, *, sample: int | None, repair: bool) -> Iterator[Check]:
    """Check every point and re-encode a sample of the documents; optionally repair what is found."""
    from diptych.collection.verify import mend, verify

    try:
        report = verify(collection.handle, sample=sample)
        if repair and report.vectors and sample is not None:
            report = verify(collection.handle, sample=None)  # if a sample has faults, other documents may have more
        if report.passed:
            yield Check("verify", "ok", f"{_looked_at(report)}: all as they were written")
        elif not repair or not report.faulty:
            do = "diptych doctor --repair" if report.faulty else "nothing wrong was found in what these files hold"
            yield Check("verify", "fail" if report.faulty else "warn", "; ".join(report.lines()), do)
        else:
            encoded, waiting = mend(collection.handle, report)
            repaired = f"{encoded:,} points have new vectors; {waiting:,} documents must be written again"
            yield Check("verify", "warn", f"{'; '.join(report.lines())}; {repaired}", POPULATE if waiting else "")
    except Exception as error:  # third-party adapters may raise anything
        yield failed("verify", error)


def compare_data(collection: Collection, metadata: CollectionMetadata, *, accept: bool) -> Iterator[Check]:
    """Compare each dense slot's current vectors with its sample of earlier ones.

    Args:
        accept: first take a new sample, of today's documents.
    """
    from diptych.slots.data_shift import data_shift, keep_samples

    client, name = collection.client, collection.name
    try:
        if accept:
            for warning in keep_samples(client, name, metadata):
                yield Check("data", "warn", warning)
        for slot, generation in metadata.live.slots.items():
            if generation.kind == "dense" and (shift := data_shift(client, name, slot, generation, metadata.layout)):
                yield _data_check(f"data of {slot}", shift)
    except Exception as error:  # a store may refuse large samples, and works all the same
        yield replace(failed("data", error), status="warn")


def _data_check(name: str, shift: DataShift) -> Check:
    then = f"the {shift.points:,} of {moment(shift.since)}"
    figures = f"(MMD {shift.discrepancy:.4f} on {shift.compared:,} vectors, p {shift.chance:.3f})"
    if not shift.shifted:
        return Check(name, "ok", f"today's documents are like {then} {figures}")
    examples = ", ".join(map(repr, shift.examples))
    found = f"today's documents differ from {then} {figures}; among the most different: {examples}"
    do = "to see whether searches find them: diptych evaluate with queries about them\n"
    return Check(
        name, "warn", found, f"{do}to compare with today's documents from now on: diptych doctor --accept-data"
    )


def _looked_at(report: VerifyReport) -> str:
    return f"{report.points:,} documents, {report.sampled:,} of them encoded again"
