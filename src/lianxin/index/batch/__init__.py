"""The index set-based: everybody linked at once, weights trained, re-runs proposed, millions loaded, quality counted by the day.

``link`` links forms in DuckDB (one machine) or Spark (many) with the same statements; ``train`` fits weights by EM on pattern
counts; ``propose`` holds a new linkage against the live index and a person accepts or refuses it; ``load`` takes millions of
registrations; ``metrics`` counts duplicates and unlinked people per institution and day. See docs/how-to/index-batch.md.
"""
