"""IHE's identity profiles at the doors: PIXm (ITI-83 query, ITI-104 feed), PDQm (ITI-78 search, ITI-119 $match).

``identifiers`` answers which identifiers a person has and who holds one, over registrations and Patients alike; ``domains`` are
the assigning authorities; ``merging`` is what a sender's own merge of two local numbers means here; ``feed`` and ``pixm`` are
the two transactions.
"""
