"""The data steps before a training: hard negatives, teachers' scores, synthetic queries, dual views.

| module | makes |
|---|---|
| `mining` | hard negatives from a live collection, or by an encoder in memory (`sources`) |
| `scoring` | a teacher's scores of mined lists, kept in a file |
| `synthetic` | queries that a generator wrote for documents, sifted (`sampling`, `leaks`, `saturation`) |
| `dual_view` | for each instruction its counterpart, with the two labels exchanged |
| `generators` | who writes: `templates` without a model, `chat` over HTTP, or a plugin's |
"""
