"""The metadata of a collection (slots, pipeline, swap state), and the layout of documents in its payloads.

Begin with `models`, then `store`, which reads and writes them in the collection. `payloads` turns documents
into payloads and back, and their ids into point ids.
"""
