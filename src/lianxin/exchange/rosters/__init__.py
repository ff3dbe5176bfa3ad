"""Lists of people as files 名册: registrations in (CSV in UTF-8 or GB 18030, or Patients as NDJSON), cross-references out (CSV).

``reading`` makes lines of a file into registrations or refusals, ``taking`` registers them, ``giving`` writes the cross-reference,
``pages`` is the desk for those who keep the index.
"""
