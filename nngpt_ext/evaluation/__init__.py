"""Evaluation: baselines, metrics, intervals over networks, and the report. Import from its modules."""
