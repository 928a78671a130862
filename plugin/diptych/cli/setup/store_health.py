"""The checks behind `diptych doctor --verify` and `--repair`: they inspect the store and repair it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from diptych.cli.setup.check_result import Check, failed
from diptych.errors import CollectionNotFound, DiptychError

if TYPE_CHECKING:
    from diptych.cli.ui.session import Session
    from diptych.collection.collection import Collection
    from diptych.collection.verify import VerifyReport
    from diptych.config import Config

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


def _looked_at(report: VerifyReport) -> str:
    return f"{report.points:,} documents, {report.sampled:,} of them encoded again"
