"""The adapters that come with diptych. They are found through the same hooks as any other plugin's.

Begin with `hooks` and `specs` (what is registered), then an adapter such as `sentence_transformers`, `bm25` or
`remote`. `engines` and `pipelines` make models faster; `langchain`, `llama_index`, `haystack` and `sklearn` connect
diptych to those frameworks.
"""

from diptych import quiet

quiet()
