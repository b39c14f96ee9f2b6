"""Does a model still fit the world? Distances, an estimated performance, a decision in one sentence, and its report."""
