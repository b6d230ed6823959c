"""Figure 4: a feed-forward network learns to classify."""
