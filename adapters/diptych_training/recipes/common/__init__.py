"""Shared by recipes: data, negatives, teachers, and the run from prepared data to a folder that a config can name.

Begin with `base`. `negatives` finds negatives, `teacher_options` and `distillation` ask a teacher,
`synthetic_queries` writes queries and finds how many are enough, `preview` shows the prepared data before training.
"""
