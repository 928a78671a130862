"""Prepares training data: hard negatives, teacher scores, synthetic queries, dual views. Begin with `mining`.

| module | makes |
|---|---|
| `mining` | hard negatives from a live collection, or by an encoder in memory (`candidate_sources`) |
| `scoring` | a teacher's scores for mined lists, kept in a file |
| `synthetic` | queries for documents, written by a generator and filtered (`query_filters`, `saturation`) |
| `generators` | the generators: `templates` without a model, `chat` over HTTP, or a plugin's |
"""
