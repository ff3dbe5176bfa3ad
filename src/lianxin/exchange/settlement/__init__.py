"""Settlement detail of the health insurance 人员结算明细: what was paid for whom, where, by whom, to the fen.

``layout`` knows how counties head their columns (``data/layout.yaml``), ``reading`` streams CSV and Excel, ``checking`` makes a row
into a line or says why not (``data/rules.yaml``), ``providers`` says where a code stands (own, other in the county, outside,
pharmacy), ``loading`` copies a batch into the table, ``control`` compares it with its control sheet, ``batches`` moves it through
its states, ``figures`` counts accepted batches for the rooms above, ``linking`` finds people later; ``pages`` and ``door`` are the ways in.
"""
