"""A run's weights for others: a folder that `weights=` takes, with a model card and, on request, graphs."""
