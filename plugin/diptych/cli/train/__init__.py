"""Commands that train encoders: `train` runs a recipe file, `recipes` lists what can be trained.

The work is in `diptych.training` and in the recipes of installed plugins.
"""
