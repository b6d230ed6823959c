"""Few-shot learning: characters never seen before, learned from one drawing each."""
