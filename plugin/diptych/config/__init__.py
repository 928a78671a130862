"""The config file: models, loading, schema."""
