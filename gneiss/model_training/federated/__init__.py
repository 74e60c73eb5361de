"""Federated training: quality models from documents that may not leave the sites where they are.

A site answers a task, weights and what it is corrected by, with the difference that its own documents make; the server
averages. Strategies (`strategies`) are arrays in, arrays out. A `coordinator` asks sites by an engine (`engines`),
which carries messages; to it a `region` is a site. `simulation` is all of it on one machine, `flare` across
organisations. The model is linear on fastText's features (`features`, `linear`) and becomes a fastText file (`model`),
which nothing downstream can tell from another; or it is an encoder with adapters of low rank (`encoder`).
"""
