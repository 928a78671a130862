"""Work of Studio that takes longer than a request: evaluations, tuning and checks, one at a time.

Begin with `queue`, which runs jobs and ends those that nobody asks for. `query_sets` reads the judged
queries that `evaluations` and `thorough_health` work with.
"""
