"""Shared by recipes: data, negatives, teachers, and the run from prepared data to a folder that a config can name.

Begin with `base`. `negatives` and `remining` find negatives, `teachers` and `distillation` score with another model,
`synthetic_queries` writes queries and finds how many are enough, `preview` shows the prepared data before training.
"""
