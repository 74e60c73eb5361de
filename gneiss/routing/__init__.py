"""Routing: the cheapest tier whose decision will agree with a judge, and the judge only where it must be asked.

A *tier* is an annotation with a threshold: it decides about a document, with a margin. Tiers 0 to J − 1 rise
in cost, tier J is the judge. After MESS+ (Zhang et al., arXiv 2411.00889 and 2505.19947), with three changes: tiers are
run one after another, each at its own cost; feedback comes from audits, as nobody rates a curated document; and a run
uses a frozen policy, so that its output depends on recipe and input only.
"""
