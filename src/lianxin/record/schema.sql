-- The record's tables: exact bodies, and beside them what searches need (architecture: docs/decisions on the record's layout).
-- rid    number of a version, from one sequence: it grows with every create, update and delete, so it orders all changes
-- key    64-bit hash of "Type/id"; subj the same of the patient reference (record.keys.ref_key)
-- keys   every discrete thing the resource can be found by, hashed with the number of the search parameter (record.keys)
-- number the search parameter (data/search.json, record_param)
-- ctx, item in rows of composite parameters: key of the item's first (token) component; ordinal of the item * 4 + position of
--        the component. Elsewhere NULL and 0.
-- at, till  half-open range of the type's main date; till is NULL where that is not one plain range (then record_date has it)
-- body   zstd with a shipped dictionary; of persons sealed with SM4-GCM besides (record.bodies)
CREATE SEQUENCE IF NOT EXISTS record_rid AS bigint;

CREATE TABLE record_resource (
  rid            bigint PRIMARY KEY,
  key            bigint NOT NULL,
  person_id      bigint,
  subj           bigint,
  updated        timestamptz NOT NULL,
  at             timestamptz,
  till           timestamptz,
  institution_id integer,
  version        integer NOT NULL,
  deleted        boolean NOT NULL DEFAULT false,
  platform       boolean NOT NULL DEFAULT false,
  rtype          text NOT NULL,
  id             text NOT NULL,
  keys           bigint[] NOT NULL,
  body           bytea NOT NULL
);
ALTER TABLE record_resource ALTER COLUMN body SET STORAGE EXTERNAL;
ALTER TABLE record_resource ALTER COLUMN keys SET STATISTICS 1000;
ALTER TABLE record_resource SET (autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX record_resource_key ON record_resource (key);
CREATE INDEX record_resource_person ON record_resource (person_id, rtype, at) WHERE person_id IS NOT NULL;
CREATE INDEX record_resource_updated ON record_resource (rtype, updated, rid);
CREATE INDEX record_resource_keys ON record_resource USING gin (keys) WITH (fastupdate = on, gin_pending_list_limit = 128);

-- Versions that are no longer current, and deletions.
CREATE TABLE record_history (
  rid            bigint PRIMARY KEY,
  key            bigint NOT NULL,
  person_id      bigint,
  updated        timestamptz NOT NULL,
  institution_id integer,
  version        integer NOT NULL,
  deleted        boolean NOT NULL,
  rtype          text NOT NULL,
  id             text NOT NULL,
  body           bytea NOT NULL
);
ALTER TABLE record_history ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE UNIQUE INDEX record_history_key ON record_history (key, version);
CREATE INDEX record_history_updated ON record_history (rtype, updated, rid);

-- Every patient reference the record knows, and the person of the index behind it now.
CREATE TABLE IF NOT EXISTS record_patient (
  subj       bigint PRIMARY KEY,
  patient_id text NOT NULL,
  person_id  bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS record_patient_person ON record_patient (person_id);

CREATE TABLE record_date (
  rid    bigint NOT NULL,
  lo     timestamptz NOT NULL,
  hi     timestamptz NOT NULL,
  ctx    bigint,
  number smallint NOT NULL,
  item   smallint NOT NULL
);
CREATE INDEX record_date_lo ON record_date (number, lo, rid);
CREATE INDEX record_date_rid ON record_date (rid);

CREATE TABLE record_quantity (
  rid    bigint NOT NULL,
  lo     float8 NOT NULL,
  hi     float8,
  ctx    bigint,
  code   integer NOT NULL,
  name   integer NOT NULL,
  sys    integer NOT NULL,
  number smallint NOT NULL,
  item   smallint NOT NULL
);
CREATE INDEX record_quantity_lo ON record_quantity (number, lo, rid);
CREATE INDEX record_quantity_rid ON record_quantity (rid);

CREATE TABLE record_string (
  rid    bigint NOT NULL,
  ctx    bigint,
  number smallint NOT NULL,
  item   smallint NOT NULL,
  kind   smallint NOT NULL,
  val    text NOT NULL,
  raw    text
);
CREATE INDEX record_string_val ON record_string (number, val text_pattern_ops, rid);
CREATE INDEX record_string_rid ON record_string (rid);

-- Distinct texts of codes (for :text) and distinct UCUM units (for conversion): small, they only grow.
CREATE TABLE record_text (
  key    bigint PRIMARY KEY,
  number smallint NOT NULL,
  val    text NOT NULL
);
CREATE INDEX record_text_val ON record_text (number, val text_pattern_ops);

CREATE TABLE record_unit (
  code text PRIMARY KEY
);

-- Search parameters a site added, and the walk that indexes what was there before.
CREATE TABLE record_param (
  number     smallint PRIMARY KEY,
  rtype      text NOT NULL,
  code       text NOT NULL,
  kind       text NOT NULL,
  expression text NOT NULL,
  targets    text[] NOT NULL DEFAULT '{}',
  url        text NOT NULL DEFAULT '',
  status     text NOT NULL CHECK (status IN ('indexing', 'active', 'retired')),
  UNIQUE (rtype, code)
);

CREATE TABLE record_reindex (
  id       bigserial PRIMARY KEY,
  rtype    text NOT NULL,
  started  timestamptz NOT NULL,
  finished timestamptz,
  upto     bigint NOT NULL,
  after    bigint NOT NULL DEFAULT 0,
  total    bigint NOT NULL,
  done     bigint NOT NULL DEFAULT 0,
  changed  bigint NOT NULL DEFAULT 0
);
