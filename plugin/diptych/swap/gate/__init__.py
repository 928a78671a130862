"""The gate: decides by measurement whether new encoders or settings may replace the live ones.

Begin with `gate`. With relevance judgements `judged` compares measures; without them `overlap` compares answers.
`coverage` and `stored_vectors` check that the new vectors are complete and sound; `decision` combines the results.
"""
