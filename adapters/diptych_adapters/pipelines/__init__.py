"""A model as a pipeline: loaded, checked, fingerprinted and run without its library where that is faster."""
