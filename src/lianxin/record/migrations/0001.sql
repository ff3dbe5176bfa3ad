-- The record's tables: exact text, and narrow index rows beside it.
-- key, target, subj: 64-bit hash of "Type/id" (record.keys.ref_key); tok: 64-bit hash of a code, uri or blind-indexed value.
-- pid: number of a search parameter of one type (record.definitions); sys: 32-bit hash of a code system.
CREATE SEQUENCE record_rid AS bigint;

CREATE TABLE record_resource (
  rid            bigint PRIMARY KEY DEFAULT nextval('record_rid'),
  key            bigint NOT NULL,
  person_id      bigint,
  subj           bigint,
  updated        timestamptz NOT NULL,
  at             timestamptz,
  institution_id bigint,
  version        integer NOT NULL,
  deleted        boolean NOT NULL DEFAULT false,
  platform       boolean NOT NULL DEFAULT false,
  rtype          text NOT NULL,
  id             text NOT NULL,
  body           text NOT NULL
);
ALTER TABLE record_resource ALTER COLUMN body SET COMPRESSION lz4;
CREATE UNIQUE INDEX record_resource_key ON record_resource (key);
CREATE INDEX record_resource_person ON record_resource (person_id, rtype, at) WHERE person_id IS NOT NULL;
CREATE INDEX record_resource_updated ON record_resource (rtype, updated, rid);

CREATE TABLE record_history (
  rid            bigint NOT NULL,
  version        integer NOT NULL,
  updated        timestamptz NOT NULL,
  institution_id bigint,
  deleted        boolean NOT NULL,
  body           text NOT NULL,
  PRIMARY KEY (rid, version)
);
ALTER TABLE record_history ALTER COLUMN body SET COMPRESSION lz4;

-- Every patient reference the record knows, and the person of the index behind it now.
CREATE TABLE record_patient (
  subj       bigint PRIMARY KEY,
  patient_id text NOT NULL,
  person_id  bigint NOT NULL
);
CREATE INDEX record_patient_person ON record_patient (person_id);

CREATE TABLE record_token (
  tok  bigint NOT NULL,
  subj bigint NOT NULL,
  rid  bigint NOT NULL,
  sys  integer NOT NULL,
  pid  smallint NOT NULL
);
CREATE INDEX record_token_tok ON record_token (tok, pid, subj, rid);
CREATE INDEX record_token_rid ON record_token (rid);

CREATE TABLE record_ref (
  target bigint NOT NULL,
  rid    bigint NOT NULL,
  pid    smallint NOT NULL,
  ttype  smallint NOT NULL
);
CREATE INDEX record_ref_target ON record_ref (target, pid, rid);
CREATE INDEX record_ref_rid ON record_ref (rid);

CREATE TABLE record_date (
  lo   timestamptz NOT NULL,
  hi   timestamptz NOT NULL,
  rid  bigint NOT NULL,
  pid  smallint NOT NULL
);
CREATE INDEX record_date_lo ON record_date (pid, lo, rid);
CREATE INDEX record_date_rid ON record_date (rid);

CREATE TABLE record_quantity (
  rid  bigint NOT NULL,
  unit bigint NOT NULL,
  name bigint NOT NULL,
  sys  integer NOT NULL,
  pid  smallint NOT NULL,
  lo   numeric NOT NULL,
  hi   numeric NOT NULL
);
CREATE INDEX record_quantity_lo ON record_quantity (pid, lo, rid);
CREATE INDEX record_quantity_rid ON record_quantity (rid);

CREATE TABLE record_string (
  rid  bigint NOT NULL,
  pid  smallint NOT NULL,
  kind smallint NOT NULL,
  val  text NOT NULL,
  raw  text
);
CREATE INDEX record_string_val ON record_string (pid, val text_pattern_ops, rid);
CREATE INDEX record_string_rid ON record_string (rid);
