"""Bulk data: ``$export`` and ``$import`` of the FHIR door, done outside requests by worker processes.

=========  ==========================================================================================================
models     a job, its lanes (what one worker does at a time), its files, uploads
kickoff    the operations: arguments checked, a job noted, 202
views      /bulk/: status, cancel, manifest, files, uploads
runner     workers: claim a lane under a lease, do a step, note it; plan and finish jobs
export     a step of an export: slices of the record into one finished file
intake     a step of an import: one chunk of lines, stored with its progress in one transaction
sources    where imports come from: uploads, allowed addresses, Binary
files      sealed, compressed NDJSON on disk
=========  ==========================================================================================================
"""
