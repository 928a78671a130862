"""What a hit shows of its text: `passages` finds the parts that answer the query, `highlights` sentences and words."""
