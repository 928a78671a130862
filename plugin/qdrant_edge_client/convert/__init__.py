"""Translates between qdrant-client's models and Qdrant Edge's objects, one module for each family of models.

`config`, `points`, `filters`, `queries` and `indexes` go to the engine, `answers` comes back. `json_payloads` and
`vector_flaws` refuse values that the engine would store wrongly or panic on.
"""
