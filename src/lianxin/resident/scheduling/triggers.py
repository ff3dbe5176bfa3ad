"""SQL by which the database itself says that a published Slot or Location may have changed, whoever changed the pool.

A booking that leaves a session as free (or as full) as it was fires nothing. ``due`` is set without asking whether it is set already: a
publisher that is at work has the row locked, and asking would look at what was before it.
"""

FORWARD = """
CREATE FUNCTION scheduling_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE scheduling_projection SET due = TRUE WHERE kind = TG_ARGV[0]
     AND target_id = CASE TG_ARGV[1] WHEN 'id' THEN NEW.id
                     WHEN 'session_id' THEN (to_jsonb(NEW) ->> 'session_id')::bigint
                     ELSE (to_jsonb(NEW) ->> 'resource_id')::bigint END;
  RETURN NULL;
END $$;
CREATE TRIGGER scheduling_session_changed AFTER UPDATE ON pool_session FOR EACH ROW
  WHEN ((OLD.taken_public + OLD.taken_county + OLD.taken_township + OLD.taken_village < OLD.capacity)
        IS DISTINCT FROM (NEW.taken_public + NEW.taken_county + NEW.taken_township + NEW.taken_village < NEW.capacity)
     OR (OLD.status, OLD.capacity, OLD.starts_at, OLD.ends_at, OLD.opens_at, OLD.practitioner_id, OLD.fee_fen, OLD.owner,
         OLD.clinic_type, OLD.external_id, OLD.reserved_county, OLD.reserved_township, OLD.reserved_village,
         OLD.release_county, OLD.release_township, OLD.release_village)
        IS DISTINCT FROM
        (NEW.status, NEW.capacity, NEW.starts_at, NEW.ends_at, NEW.opens_at, NEW.practitioner_id, NEW.fee_fen, NEW.owner,
         NEW.clinic_type, NEW.external_id, NEW.reserved_county, NEW.reserved_township, NEW.reserved_village,
         NEW.release_county, NEW.release_township, NEW.release_village))
  EXECUTE FUNCTION scheduling_due('session', 'id');
CREATE TRIGGER scheduling_hold_kept AFTER UPDATE OF state ON pool_place FOR EACH ROW
  WHEN (OLD.state = 'held' AND NEW.state = 'booked')
  EXECUTE FUNCTION scheduling_due('session', 'session_id');
CREATE TRIGGER scheduling_hold_ended AFTER UPDATE OF state ON pool_place FOR EACH ROW
  WHEN (OLD.state = 'held' AND NEW.state <> 'held')
  EXECUTE FUNCTION scheduling_due('place', 'id');
CREATE TRIGGER scheduling_claim_changed AFTER INSERT OR UPDATE OF state, during ON pool_claim FOR EACH ROW
  EXECUTE FUNCTION scheduling_due('resource', 'resource_id');
CREATE TRIGGER scheduling_resource_changed AFTER UPDATE ON pool_resource FOR EACH ROW
  WHEN (OLD.* IS DISTINCT FROM NEW.*)
  EXECUTE FUNCTION scheduling_due('resource', 'id');
"""
BACKWARD = "DROP FUNCTION scheduling_due() CASCADE;"
