"""What diptych knows of its own adapters before any of them is imported."""
