"""What an encoder looks at: maps of how much each voxel of a scan counts for what is said of it."""
