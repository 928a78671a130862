"""Encoders of pictures, sounds, clips and series, from models of transformers and sentence-transformers.

Begin with `families`, the table of model types; `readers` turns media into a model's input; `encoder` runs the model.
`sentence_transformer` is for models of sentence-transformers that read pictures beside texts.
"""
