"""Matching: keys that bring forms together, levels that compare them, weights that judge, a policy that decides."""
