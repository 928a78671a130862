"""Shared by losses. Begin with `base`, which embeds the columns of a batch.

`base` also has gradient caching, and a teacher that scores during training; `momentum_encoder` and `extra_negatives`
add negatives.
"""
