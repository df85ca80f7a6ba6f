"""A paper's methods, in words: written from records alone, for an author to correct."""
