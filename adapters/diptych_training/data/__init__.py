"""Data steps: what is made of queries and documents before training."""
