"""Training for the encoders and rerankers that diptych serves: losses for sentence-transformers' trainers."""
