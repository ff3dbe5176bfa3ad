"""SQL of the audit chain: SM3 in the database, the linking trigger, and the triggers that keep append-only tables as they are and
rows that are named.

Used by the migrations. PostgreSQL's own functions know no SM3. The extension pgcrypto does (through OpenSSL; 0.005 ms a digest),
but not every server has it, so it is also written out here after GB/T 32905-2016 (0.5 ms); the tests compare all with OpenSSL.
"""

_IV = (
    0x7380166F, 0x4914B2B9, 0x172442D7, 0xDA8A0600, 0xA96F30BC, 0x163138AA, 0xE38DEE4D, 0xB0FB0E4E,
)  # fmt: skip
APPEND_ONLY = ("access_auditevent", "access_chainlink", "access_chainanchor")


def _rounds() -> str:
    """The 64 round constants, already rotated."""
    out = []
    for j in range(64):
        t = 0x79CC4519 if j < 16 else 0x7A879D8A
        k = j % 32
        out.append(((t << k) | (t >> (32 - k))) & 0xFFFFFFFF)
    return ",".join(map(str, out))


def _rot(x: str, k: int) -> str:
    return f"((({x} << {k}) | ({x} >> {32 - k})) & 4294967295)"


SM3 = f"""
CREATE FUNCTION access_sm3_plain(msg bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
DECLARE
  n int := length(msg);
  m bytea := msg || '\\x80'::bytea || decode(repeat('00', ((55 - n) % 64 + 64) % 64), 'hex') || int8send(n::bigint * 8);
  t bigint[] := ARRAY[{_rounds()}]::bigint[];
  v bigint[] := ARRAY[{",".join(map(str, _IV))}]::bigint[];
  w bigint[];
  a bigint; b bigint; c bigint; d bigint; e bigint; f bigint; g bigint; h bigint;
  x bigint; r bigint; s1 bigint; s2 bigint; t1 bigint; t2 bigint;
  o int;
BEGIN
  FOR i IN 0 .. length(m) / 64 - 1 LOOP
    w := array_fill(0::bigint, ARRAY[68]);
    FOR j IN 0 .. 15 LOOP
      o := i * 64 + j * 4;
      w[j + 1] := (get_byte(m, o)::bigint << 24) | (get_byte(m, o + 1) << 16) | (get_byte(m, o + 2) << 8)
                  | get_byte(m, o + 3);
    END LOOP;
    FOR j IN 17 .. 68 LOOP
      x := w[j - 3];
      x := w[j - 16] # w[j - 9] # {_rot("x", 15)};
      x := x # {_rot("x", 15)} # {_rot("x", 23)};
      r := w[j - 13];
      w[j] := x # {_rot("r", 7)} # w[j - 6];
    END LOOP;
    a := v[1]; b := v[2]; c := v[3]; d := v[4]; e := v[5]; f := v[6]; g := v[7]; h := v[8];
    FOR j IN 1 .. 64 LOOP
      r := {_rot("a", 12)};
      s1 := (r + e + t[j]) & 4294967295;
      s1 := {_rot("s1", 7)};
      s2 := s1 # r;
      IF j <= 16 THEN
        t1 := a # b # c;
        t2 := e # f # g;
      ELSE
        t1 := (a & b) | (a & c) | (b & c);
        t2 := (e & f) | ((4294967295 - e) & g);
      END IF;
      t1 := (t1 + d + s2 + (w[j] # w[j + 4])) & 4294967295;
      t2 := (t2 + h + s1 + w[j]) & 4294967295;
      d := c; c := {_rot("b", 9)}; b := a; a := t1;
      h := g; g := {_rot("f", 19)}; f := e; e := t2 # {_rot("t2", 9)} # {_rot("t2", 17)};
    END LOOP;
    v := ARRAY[v[1] # a, v[2] # b, v[3] # c, v[4] # d, v[5] # e, v[6] # f, v[7] # g, v[8] # h];
  END LOOP;
  RETURN decode(
    (SELECT string_agg(lpad(to_hex(x8), 8, '0'), '' ORDER BY k) FROM unnest(v) WITH ORDINALITY AS u(x8, k)), 'hex');
END $$;

DO $$ BEGIN
  CREATE EXTENSION IF NOT EXISTS pgcrypto;
EXCEPTION WHEN OTHERS THEN
  RAISE NOTICE 'pgcrypto is not to be had (%): the audit is linked by slower SQL', SQLERRM;
END $$;

-- The data may move to a server whose pgcrypto or OpenSSL lacks SM3: the audit must go on there, if slower.
CREATE FUNCTION access_sm3(msg bytea) RETURNS bytea LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
  RETURN digest(msg, 'sm3');
EXCEPTION WHEN OTHERS THEN
  RETURN access_sm3_plain(msg);
END $$;
"""

CHAIN = """
CREATE FUNCTION access_lock_head() RETURNS access_chainhead LANGUAGE plpgsql AS $$
DECLARE
  mine smallint := (txid_current() % 8)::smallint;
  head access_chainhead;
BEGIN
  SELECT * INTO head FROM access_chainhead WHERE shard = mine FOR UPDATE;
  IF NOT FOUND THEN
    INSERT INTO access_chainhead (shard, seq, hash) VALUES (mine, 0, decode(repeat('00', 32), 'hex'))
      ON CONFLICT DO NOTHING;
    SELECT * INTO head FROM access_chainhead WHERE shard = mine FOR UPDATE;
  END IF;
  RETURN head;
END $$;

CREATE FUNCTION access_chain() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  head access_chainhead;
  place bigint;
  value bytea;
BEGIN
  IF EXISTS (SELECT 1 FROM access_chainlink WHERE event_id = NEW.id) THEN
    RETURN NULL;  -- linked by audit.append
  END IF;
  head := access_lock_head();
  place := head.seq + 1;
  value := access_sm3(head.hash || NEW.digest || int8send(place) || int8send(NEW.id));
  INSERT INTO access_chainlink (shard, seq, event_id, hash) VALUES (head.shard, place, NEW.id, value);
  UPDATE access_chainhead SET seq = place, hash = value WHERE shard = head.shard;
  RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER access_auditevent_chain AFTER INSERT ON access_auditevent
  DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION access_chain();

CREATE FUNCTION access_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  -- Test runners empty tables between tests; only a database made by one (test_…) allows it, and only TRUNCATE.
  IF TG_OP = 'TRUNCATE' AND current_database() LIKE 'test\\_%'
     AND coalesce(current_setting('lianxin.append_only', true), '') <> 'strict' THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION 'append_only: % of % is refused', TG_OP, TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
"""


def protect(table: str) -> str:
    """SQL of the triggers that refuse UPDATE, DELETE and TRUNCATE of ``table``."""
    return f"""
CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE ON {table}
  FOR EACH ROW EXECUTE FUNCTION access_append_only();
CREATE TRIGGER {table}_keep BEFORE TRUNCATE ON {table}
  FOR EACH STATEMENT EXECUTE FUNCTION access_append_only();
"""


NAMED = """
CREATE FUNCTION access_still_named() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  found boolean;
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.id = OLD.id THEN
    RETURN NULL;
  END IF;
  EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I WHERE %I = $1)', TG_ARGV[0], TG_ARGV[1]) INTO found USING OLD.id;
  IF found THEN
    RAISE EXCEPTION 'still_named: % of % % is refused: % names it', TG_OP, TG_TABLE_NAME, OLD.id, TG_ARGV[0]
      USING ERRCODE = 'foreign_key_violation', TABLE = TG_ARGV[0], COLUMN = TG_ARGV[1];
  END IF;
  RETURN NULL;
END $$;
"""
"""Half of a foreign key: what is named cannot go. The other half would lock the row that is named for every row that names it."""


def named(table: str, by: str, column: str) -> tuple[str, str]:
    """SQL (forward, backward) of the trigger that refuses to delete, or to give another id, what ``column`` of ``by`` names."""
    name = f"{by}_{column}_named"
    return (
        f"CREATE TRIGGER {name} AFTER DELETE OR UPDATE OF id ON {table}"
        f" FOR EACH ROW EXECUTE FUNCTION access_still_named('{by}', '{column}')",
        f"DROP TRIGGER {name} ON {table}",
    )


HEADS = """
INSERT INTO access_chainhead (shard, seq, hash)
SELECT s, 0, decode(repeat('00', 32), 'hex') FROM generate_series(0, 7) AS s;
CREATE TRIGGER access_chainhead_keep BEFORE DELETE ON access_chainhead
  FOR EACH ROW EXECUTE FUNCTION access_append_only();
"""

FORWARD = SM3 + CHAIN + "".join(protect(table) for table in APPEND_ONLY) + HEADS
BACKWARD = """
DROP TRIGGER IF EXISTS access_auditevent_chain ON access_auditevent;
DROP FUNCTION access_append_only() CASCADE;
DROP FUNCTION access_chain();
DROP FUNCTION access_lock_head();
DROP FUNCTION access_sm3(bytea);
DROP FUNCTION access_sm3_plain(bytea);
"""
