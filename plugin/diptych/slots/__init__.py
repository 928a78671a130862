"""A slot at work: one encoder with its checks and caches, filling and searching one named vector.

Begin with `slot`: `Slot`, and `SlotMaker`, which creates them. `guard` refuses an encoder that did not make the
collection's vectors; it re-encodes `canaries`, again and again for remote encoders, since these can change at any time.
`encode` calls them and keeps the last queries' vectors, `cache` those of documents, in the file of `cache_table`.
"""

import diptych.runtime.lazy_imports  # noqa: F401
