"""The gate: decides by measurement whether new encoders or settings may replace the live ones.

Begin with `gate`. With relevance judgements `judged` compares measures, by groups of queries where `document_fields`
gives the groups; without them `overlap` compares answers. `vector_health` checks that the new vectors are complete and
sound. `answers` searches a view and times it, `storage_trial` changes storage so that it can be measured, and
`decision` combines the results.
"""
