"""`warm`: what the first query would have to wait for, done before it comes."""

from __future__ import annotations

from dataclasses import replace

from diptych.canaries import TEXTS
from diptych.handle import CollectionHandle
from diptych.search.asked import Asked, Options
from diptych.search.found import found_together
from diptych.search.run import current, finished
from diptych.tenancy import whole
from diptych.view import View

QUERIES = TEXTS[:4]  # of the lengths that queries have


def warm(handle: CollectionHandle) -> None:
    """Load and check encoders and rerankers of the config's pipeline, and search with some texts, alone and together.

    Plugins are not told of it, and the texts are not remembered.

    Raises:
        CollectionNotFound: nothing has been populated yet.
        FingerprintMismatch: the config's encoders did not make the collection's vectors.
        SearchError, ContractError, RegistryError: every query would fail like this.
    """
    current(handle, lambda: _search(handle.now()))


def _search(view: View) -> None:
    config = view.search_config.model_copy(update={"remember": 0})
    view = replace(whole(view), search_config=config, kept={})
    for texts in (*([text] for text in QUERIES), QUERIES):
        asked = Asked.of(view, texts, Options())
        finished(asked, found_together([asked])[0])
