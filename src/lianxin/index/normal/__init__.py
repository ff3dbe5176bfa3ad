"""Normalisers of the index: from what people type to what can be compared. Pure, fast, tolerant: no input raises."""
