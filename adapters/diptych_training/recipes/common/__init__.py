"""What recipes share: data, negatives, teachers, and the run to a folder that a config names."""
