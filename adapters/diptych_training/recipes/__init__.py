"""The built-in recipes, one for each module, registered by `diptych_training.hooks`.

Begin with `contrastive`, the simplest, and `common.base`, the run that all of them share.
"""
