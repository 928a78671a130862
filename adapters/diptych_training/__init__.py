"""Training for the encoders and rerankers that diptych serves: losses for sentence-transformers' trainers."""

import diptych  # noqa: F401  first: it switches off the usage reports of libraries that are imported from here on
