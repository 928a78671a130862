"""Commands that train encoders: `train` runs a recipe file, `recipes` lists what can be trained.

Begin with `train`. The work is in `diptych.training` and in the recipes of installed plugins.
"""
