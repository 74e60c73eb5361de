"""Adapters of a small transformer, trained across sites: FedLoRA, FFA-LoRA and FedARA.

`ranks`, `adapters` and `lowrank` are functions of arrays; `space` says which matrices of an encoder are adapted;
`adapted`, `training` and `site` need torch, and are a site's; `simulation` has all of it on one machine, `model` writes
what comes of it.
"""
