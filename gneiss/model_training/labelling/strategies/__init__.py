"""Labelling: which documents to have labelled, so that the labels cover a corpus and then show a model its border.

Strategies without files or clocks, arrays in and arrays out: a coreset (`coreset`, `cover`), forecasts of features that
are dear (`forecast`), and margin (`margin`). After two-phase coreset labelling (Chiu et al., arXiv 2408.02849), with
four changes: a document goes to the nearest collected one, not to the first that fits; covers are greedy; a budget is
spent evenly over the stream; and forecasts that shrink to the mean are noticed.
"""
