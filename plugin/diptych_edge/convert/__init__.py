"""Translates between qdrant-client's models and Qdrant Edge's objects, one module for each family of models.

Begin with `points`, which also refuses values that the engine would store wrongly or panic on. It, `config`, `filters`
and `queries` translate for the engine, `queries` translates answers back.
"""
