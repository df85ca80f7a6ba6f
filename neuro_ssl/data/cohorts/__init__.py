"""Layouts in which public cohorts are downloaded, where they are neither BIDS nor one table of files."""
