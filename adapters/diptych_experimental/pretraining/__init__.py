"""Recipe `pretrain`: encoders of pictures or clips, from items without labels, by filling in hidden patches.

Begin with `recipe`; `models` has the network in training, `losses` what it is trained for.
"""
