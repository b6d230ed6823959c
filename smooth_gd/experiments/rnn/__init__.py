"""Figure 3: a recurrent network learns spike patterns."""
