"""fastText models: their files, and all of them in one pass over a text."""
