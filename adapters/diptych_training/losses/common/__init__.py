"""Shared by losses. Begin with `base`, which embeds the columns of a batch.

`base` also has gradient caching, and a teacher that scores during training; `extra_negatives` adds negatives, such as a
momentum encoder's.
"""
