"""What is to be seen of the runs at Weights & Biases: a workspace and a report, as wandb-workspaces writes them."""
