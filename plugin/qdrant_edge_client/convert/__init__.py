"""Translates between qdrant-client's models and Qdrant Edge's objects, one module for each family of models.

Begin with `points`. It, `config`, `filters`, `queries` and `indexes` translate for the engine, `answers` translates
back. `json_payloads` and `vector_flaws` refuse values that the engine would store wrongly or panic on.
"""
