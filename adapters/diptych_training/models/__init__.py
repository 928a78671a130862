"""Models that recipes train: heads, lexicons, early exits and prototypes around an encoder.

Begin with `trained_module`. Each module is named after its recipe or method. `layers` and `trained_module` hold what
they share.
"""
