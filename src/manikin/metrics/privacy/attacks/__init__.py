"""Membership inference attacks, one a file: (targets, synthetic, reference, rng) → scores.

A score is higher the more a target row looks like a training row. An attack sees the synthetic
rows, reference rows of the same population that are nobody's target, and no label.
"""
