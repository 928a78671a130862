"""What losses share. Begin with `base`, which embeds the columns of a batch.

`cached` is gradient caching, `momentum_encoder` and `extra_negatives` add negatives, `online_distillation` scores with
a teacher during training, `resumable_draws` makes random numbers repeatable across a restart.
"""
