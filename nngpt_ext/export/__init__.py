"""Publishing: an adapter with its card, the pairs as a dataset, questions as a task of lm-evaluation-harness."""
