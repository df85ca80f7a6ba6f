"""Whether a run and its repetition are the same: what differed before, and what came of it."""
