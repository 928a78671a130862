"""A model as a pipeline: loaded, checked, fingerprinted, and run without its library where that is faster.

Begin with `pipeline`. `library` and `bert_files` load, `weight_checks` reads the parts, `fingerprints` says which
vectors are comparable.
"""
