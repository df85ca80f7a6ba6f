"""From one NIfTI image to a brain volume on a template grid, in units of its white matter."""
