"""Coding: a spare head that stands in for any one of several heads, so that the loss of a machine loses no scores.

Without files or clocks, arrays in and arrays out: exact codes of linear heads (`linear`), merged networks
(`barycenter`, after COIN: Jhunjhunwala et al. 2024, arXiv 2409.01420), and which decoded scores wait for the lost head
(`guard`).
"""
