"""What a hit shows of its text.

Begin with `passages`, which finds the parts that answer the query; `highlights` finds sentences and words.
"""
