"""The gate: decides by measurement whether new encoders or settings may replace the live ones.

Begin with `gate`, which also checks that the new vectors are complete and sound. With relevance judgements `judged`
compares measures; without them `answers`, which searches a view and times it, compares answers. `decision` combines the
results, carries a score threshold over, and changes storage so that it can be measured.
"""
