"""Tables as a feed 表格: CSV, Excel and read-only views of a partner's database become resources of the record.

``reading`` gives rows of a file, ``database`` rows of a view; ``targets`` says what a table can become (data/targets), ``recognise``
which column is which, ``convert`` turns cells into values, ``building`` values into FHIR, ``people`` whose they are.  ``chunks`` takes
some rows in one transaction, ``running`` a whole file or view, ``schedule`` does so again every so often.  ``workbook`` makes the Excel
templates for those who have nothing else, ``door`` tries a refused row again, ``pages`` is the desk.  See docs/how-to/tables.md.
"""
