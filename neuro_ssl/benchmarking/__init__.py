"""What a step, its parts and the whole of pretraining cost, beside the paper's way of doing the same."""
