"""Prepares training data. Begin with `mining`.

| module | makes |
|---|---|
| `mining` | hard negatives from a live collection, or by the model that is trained |
| `synthetic` | queries for documents, written by a generator and filtered |
| `generators` | the generators: `templates` without a model, `chat` over HTTP, or a plugin's |
| `media_items` | media with their texts |
"""
