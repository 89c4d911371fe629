"""A second task, as a plugin: spend a training budget by what `dataset_compare` predicts."""
