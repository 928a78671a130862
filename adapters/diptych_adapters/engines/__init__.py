"""Runs models faster than their libraries do: texts tokenised once, batches by tokens, other backends than torch."""
