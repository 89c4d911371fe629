"""Exports: an adapter with its card, the pairs as a dataset, the questions as a task of lm-evaluation-harness."""
