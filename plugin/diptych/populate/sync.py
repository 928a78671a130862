"""`--sync`: delete from the collection what the source has no more."""

from __future__ import annotations

from diptych.payloads import points_are_free
from diptych.populate.aside import Aside
from diptych.populate.seen import SeenIds
from diptych.populate.statistics import batched
from diptych.populate.store import PAGE, Store
from diptych.tenancy import identity


def obstacle(read: int, aside: Aside) -> str:
    """Why nothing may be deleted, empty when nothing stands against it: deleting on a misreading is no way back."""
    if not read:
        return "nothing was deleted: the source is empty. To empty the collection, delete it."
    if aside.unidentified:
        return f"nothing was deleted: {_unidentified(aside)}, so what is gone cannot be told. Mend that and run again."
    return ""


def _unidentified(aside: Aside) -> str:
    if aside.unidentified == 1:
        place = f" ({aside.first_unidentified})" if aside.first_unidentified else ""
        return f"1 entry of the source{place} has no readable id"
    place = f" (the first: {aside.first_unidentified})" if aside.first_unidentified else ""
    return f"{aside.unidentified:,} entries of the source{place} have no readable id"


def delete_gone(store: Store, seen: SeenIds, tenant: str | None = None) -> int:
    """Delete the points of documents that the source does not have, or has at another point; how many there were.

    Points that diptych did not write stay, and those of other tenants where one is named.
    """
    free, tenancy, layout = points_are_free(store.layout), store.tenancy, store.layout
    gone = (
        point
        for point, document in store.documents(tenant)
        if not seen.accounts_for(identity(document, tenant, tenancy, layout), None if free else point)
    )
    deleted = 0
    for batch in batched(gone, PAGE):
        store.delete(batch)
        deleted += len(batch)
    return deleted
