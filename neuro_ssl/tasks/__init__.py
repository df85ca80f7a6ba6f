"""Training tasks: one LightningModule a file. Each owns its views, its loss and its metrics."""
