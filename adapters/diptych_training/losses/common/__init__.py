"""What losses share: embedding of batches, queues, further negatives, gradient caching."""
