"""Encoders of pictures, sounds and clips, from models of transformers and sentence-transformers.

Begin with `encoder`, which has the table of model types and runs a model; `readers` turns media into a model's input.
"""
