"""Which documents of a run to have labelled, as files: a queue of a coreset, an audit, and rounds of margin."""
