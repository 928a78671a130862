"""`warm` prepares everything that the first query would wait for; `check` tests whether queries work now."""

from __future__ import annotations

from dataclasses import replace

from diptych.handle.collection_handle import CollectionHandle
from diptych.handle.snapshot import View
from diptych.handle.tenancy import whole
from diptych.media import RawMedia
from diptych.media.canaries import media_canaries
from diptych.search.options import Options
from diptych.search.pipeline import Pipeline
from diptych.search.qdrant.store_calls import read_store
from diptych.search.request import SearchRequest
from diptych.search.retrieve import retrieve_together
from diptych.search.run import on_current_view, reranked
from diptych.slots.canaries import TEXTS
from diptych.types import Query

QUERIES = TEXTS[:4]  # of the lengths that queries have


def warm(handle: CollectionHandle) -> None:
    """Load and check encoders and rerankers of the config's pipeline, and run some searches, alone and together.

    Plugins are not notified, and the texts are not cached.

    Raises:
        CollectionNotFound: nothing has been populated yet.
        FingerprintMismatch: the config's encoders did not make the collection's vectors.
        SearchError, ContractError, RegistryError: every query would fail like this.
    """
    on_current_view(handle, _search)


def check(handle: CollectionHandle) -> None:
    """Search for one hit without rerankers: cheap enough to be run every few seconds while a service runs.

    Encoders behind a network cost money and have limits, so a pipeline with one only asks the store.

    Raises:
        CollectionNotFound, StoreUnavailable, SearchError, ContractError, AdapterCrashed: queries fail now.
    """
    on_current_view(handle, _check)


def _check(view: View) -> None:
    pipeline = replace(Pipeline.from_config(view.search_config, view.slots), rerank=())
    if any((view.slots[name].asker or view.slots[name]).spec.remote for name in pipeline.slots):
        read_store(view, lambda: view.client.count(view.name, exact=False))
    else:
        retrieve_together([SearchRequest.of(whole(view).unremembered(), _queries(view)[:1], Options(pipeline, 1))])


def _queries(view: View) -> list[Query]:
    """Queries that every slot of the pipeline can be asked: texts, with media beside them for slots without texts."""
    slots = [view.slots[name] for name in Pipeline.from_config(view.search_config, view.slots).slots]
    media: dict[str, RawMedia] = {
        slot.reading.modality: media_canaries(slot.reading.modality)[0] for slot in slots if not slot.takes_texts
    }
    return [Query(text, media=media) for text in QUERIES]


def _search(view: View) -> None:
    view = whole(view).unremembered()
    queries = _queries(view)
    for some in (*([query] for query in queries), queries):
        request = SearchRequest.of(view, some, Options())
        reranked(request, retrieve_together([request])[0])
