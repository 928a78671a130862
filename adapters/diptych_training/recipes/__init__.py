"""The built-in recipes, one for each module, registered by `diptych_training.hooks`.

Begin with `contrastive`, the simplest, and `base`, the run that all of them share.
"""
