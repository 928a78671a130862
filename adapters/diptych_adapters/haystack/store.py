"""`DiptychDocumentStore`: the document store, with a coroutine for each of its methods."""

from __future__ import annotations

from diptych_adapters.frameworks import in_thread
from diptych_adapters.haystack.collection_store import CollectionStore


class DiptychDocumentStore(CollectionStore):
    """Documents of a collection, written, read and searched with the collection's own encoders.

    Args:
        source: a config, as the path of its file or a mapping; a store's URL; or an open `Collection`, or one tenant's
            view of it, which its owner closes.
        name: of the collection; with a config, instead of the one it names.
        api_key: of the server behind a URL; a config names its own.
        tenant: to whose documents all methods are limited, in a collection with tenants.

    The collection is opened when it is first needed. Stores of one process with the same arguments share it. A
    coroutine runs the method without `_async` in a thread, without blocking the event loop.
    """

    count_documents_async = in_thread(CollectionStore.count_documents)
    filter_documents_async = in_thread(CollectionStore.filter_documents)
    write_documents_async = in_thread(CollectionStore.write_documents)
    delete_documents_async = in_thread(CollectionStore.delete_documents)
    delete_all_documents_async = in_thread(CollectionStore.delete_all_documents)
    delete_by_filter_async = in_thread(CollectionStore.delete_by_filter)
    update_by_filter_async = in_thread(CollectionStore.update_by_filter)
    count_documents_by_filter_async = in_thread(CollectionStore.count_documents_by_filter)
    get_metadata_fields_info_async = in_thread(CollectionStore.get_metadata_fields_info)
    get_metadata_field_min_max_async = in_thread(CollectionStore.get_metadata_field_min_max)
    count_unique_metadata_by_filter_async = in_thread(CollectionStore.count_unique_metadata_by_filter)
    get_metadata_field_unique_values_async = in_thread(CollectionStore.get_metadata_field_unique_values)
    close_async = in_thread(CollectionStore.close)
