"""Trains the encoders and rerankers that diptych serves, on sentence-transformers' trainers.

Begin with `recipes` (one module for each way to train) and `recipes.base` (the run they share). `data` mines
negatives and writes queries, `losses`, `samplers` and `models` can be used alone, `running` drives the trainers.
"""

from diptych import quiet

quiet()
