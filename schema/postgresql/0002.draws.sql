-- Dense slots, so that a draw costs a few primary-key look-ups however large the tables are: the rows
-- of each difficulty are numbered 1 to n without a gap. The numbers say nothing else and change when
-- rows are deleted. Triggers keep them, whoever changes the tables. Needs PostgreSQL 13.
-- docs/decisions/0002-draws.md has the reasons.

CREATE TABLE quiz_slots (
    difficulty INTEGER NOT NULL,  -- quizzes.difficulty
    slot INTEGER NOT NULL,        -- 1 to the number of quizzes of this difficulty, without a gap
    quiz_id BIGINT NOT NULL,      -- quizzes.id; BIGINT because some deployments made that one so
    PRIMARY KEY (difficulty, slot)
);

CREATE TABLE action_slots (
    difficulty INTEGER NOT NULL,  -- actions.difficulty
    slot INTEGER NOT NULL,        -- 1 to the number of actions of this difficulty, without a gap
    action_id BIGINT NOT NULL,    -- actions.id
    PRIMARY KEY (difficulty, slot)
);

CREATE TABLE slot_guards (
    name VARCHAR(63) PRIMARY KEY, -- the slot table that the row guards
    writer XID8 NOT NULL          -- the transaction that changed the slot table last
);

INSERT INTO slot_guards (name, writer) VALUES ('quiz_slots', '0'), ('action_slots', '0');

-- Keeps the slots of one table. Arguments of the trigger: the slot table, its column for the row's id.
-- Every statement inside is planned when it runs (EXECUTE), with the number of changed rows known: the
-- plan for one row would take hours for a million.
CREATE FUNCTION relayd_slots() RETURNS TRIGGER LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    gone TEXT := 'SELECT id, difficulty FROM old_rows WHERE difficulty IS NOT NULL';
    come TEXT := 'SELECT id, difficulty FROM new_rows WHERE difficulty IS NOT NULL';
    changed BOOLEAN := TRUE;
BEGIN
    IF TG_OP = 'UPDATE' THEN
        EXECUTE format('SELECT EXISTS (%1$s EXCEPT %2$s) OR EXISTS (%2$s EXCEPT %1$s)', gone, come)
            INTO changed;
        SELECT gone || ' EXCEPT ' || come, come || ' EXCEPT ' || gone INTO gone, come;
    ELSIF TG_OP = 'INSERT' THEN
        EXECUTE format('SELECT EXISTS (%s)', come) INTO changed;
    ELSIF TG_OP = 'DELETE' THEN
        EXECUTE format('SELECT EXISTS (%s)', gone) INTO changed;
    END IF;
    IF NOT changed THEN
        RETURN NULL;
    END IF;

    -- One writer at a time, until it commits. The next one's statements below see what it did, at READ
    -- COMMITTED; at the higher levels this UPDATE fails with 40001, as any conflict does there. Once a
    -- transaction is enough, and keeps the chain of the row's versions short.
    UPDATE slot_guards SET writer = pg_current_xact_id()
    WHERE name = TG_ARGV[0] AND writer <> pg_current_xact_id();

    IF TG_OP = 'TRUNCATE' THEN
        EXECUTE format('TRUNCATE %I', TG_ARGV[0]);
    END IF;

    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        -- The last slots of the difficulty move into the holes; then the end is cut off.
        EXECUTE format($sql$
            WITH gone AS (%3$s),
            holes AS (
                SELECT s.difficulty, s.slot FROM %1$I s
                JOIN gone g ON g.id = s.%2$I AND g.difficulty = s.difficulty
            ),
            sizes AS MATERIALIZED (
                SELECT h.difficulty, COUNT(*) AS holes,
                    (SELECT MAX(s.slot) FROM %1$I s WHERE s.difficulty = h.difficulty) - COUNT(*) AS size
                FROM holes h GROUP BY h.difficulty
            ),
            tail AS MATERIALIZED (
                SELECT z.difficulty, z.size + n AS slot FROM sizes z, generate_series(1, z.holes) n
            ),
            -- holes to fill and ids to fill them with, paired by counting both (a join of the two could
            -- be planned as a nested loop)
            pairs AS (
                SELECT difficulty, place, MAX(slot) AS slot, MAX(id) AS id FROM (
                    SELECT h.difficulty, h.slot, NULL::BIGINT AS id,
                        row_number() OVER (PARTITION BY h.difficulty ORDER BY h.slot) AS place
                    FROM holes h JOIN sizes z ON z.difficulty = h.difficulty AND h.slot <= z.size
                    UNION ALL
                    SELECT s.difficulty, NULL, s.%2$I,
                        row_number() OVER (PARTITION BY s.difficulty ORDER BY s.slot)
                    FROM tail t JOIN %1$I s ON s.difficulty = t.difficulty AND s.slot = t.slot
                    WHERE NOT EXISTS (SELECT FROM gone g WHERE g.id = s.%2$I)
                ) halves GROUP BY difficulty, place
            ),
            filled AS (
                UPDATE %1$I s SET %2$I = p.id FROM pairs p
                WHERE s.difficulty = p.difficulty AND s.slot = p.slot
            )
            DELETE FROM %1$I s USING tail t WHERE s.difficulty = t.difficulty AND s.slot = t.slot
        $sql$, TG_ARGV[0], TG_ARGV[1], gone);
    END IF;

    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        EXECUTE format($sql$
            WITH come AS (%3$s),
            tops AS MATERIALIZED (
                SELECT d.difficulty,
                    COALESCE((SELECT MAX(s.slot) FROM %1$I s WHERE s.difficulty = d.difficulty), 0) AS top
                FROM (SELECT DISTINCT difficulty FROM come) d
            )
            INSERT INTO %1$I (difficulty, slot, %2$I)
            SELECT c.difficulty, t.top + row_number() OVER (PARTITION BY c.difficulty ORDER BY c.id), c.id
            FROM come c JOIN tops t ON t.difficulty = c.difficulty
        $sql$, TG_ARGV[0], TG_ARGV[1], come);
    END IF;
    RETURN NULL;
END;
$$;

-- Whoever may write to the tables fires the triggers, so they run with the rights of the slots' owner;
-- then nobody else may tie the function to a table, or show it other tables through the search path.
REVOKE ALL ON FUNCTION relayd_slots() FROM PUBLIC;

DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION relayd_slots() SET search_path = %I, pg_temp', current_schema());
END;
$$;

-- No writer between the first filling and the triggers.
LOCK TABLE quizzes, actions IN SHARE ROW EXCLUSIVE MODE;

INSERT INTO quiz_slots (difficulty, slot, quiz_id)
SELECT difficulty, row_number() OVER (PARTITION BY difficulty ORDER BY id), id
FROM quizzes WHERE difficulty IS NOT NULL;

INSERT INTO action_slots (difficulty, slot, action_id)
SELECT difficulty, row_number() OVER (PARTITION BY difficulty ORDER BY id), id
FROM actions WHERE difficulty IS NOT NULL;

-- Not unique: while holes are filled, an id stands in two slots.
CREATE INDEX quiz_slots_quiz_id ON quiz_slots (quiz_id);
CREATE INDEX action_slots_action_id ON action_slots (action_id);

CREATE TRIGGER relayd_slots_insert AFTER INSERT ON quizzes REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION relayd_slots('quiz_slots', 'quiz_id');

CREATE TRIGGER relayd_slots_update AFTER UPDATE ON quizzes
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION relayd_slots('quiz_slots', 'quiz_id');

CREATE TRIGGER relayd_slots_delete AFTER DELETE ON quizzes REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION relayd_slots('quiz_slots', 'quiz_id');

CREATE TRIGGER relayd_slots_truncate AFTER TRUNCATE ON quizzes
FOR EACH STATEMENT EXECUTE FUNCTION relayd_slots('quiz_slots', 'quiz_id');

CREATE TRIGGER relayd_slots_insert AFTER INSERT ON actions REFERENCING NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION relayd_slots('action_slots', 'action_id');

CREATE TRIGGER relayd_slots_update AFTER UPDATE ON actions
REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION relayd_slots('action_slots', 'action_id');

CREATE TRIGGER relayd_slots_delete AFTER DELETE ON actions REFERENCING OLD TABLE AS old_rows
FOR EACH STATEMENT EXECUTE FUNCTION relayd_slots('action_slots', 'action_id');

CREATE TRIGGER relayd_slots_truncate AFTER TRUNCATE ON actions
FOR EACH STATEMENT EXECUTE FUNCTION relayd_slots('action_slots', 'action_id');

-- Draws once for every difficulty in the array: up to three different quizzes, in random order, and one
-- action, NULL if there is none. STABLE is not about random() here: it gives all statements inside the
-- snapshot of the query that calls, in which the slots are dense. Without sequential scans, because a
-- plan made while the tables were small stays in the session when they have grown.
CREATE FUNCTION relayd_draw(difficulties INTEGER[])
RETURNS TABLE (quiz_ids BIGINT[], action_id BIGINT)
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
DECLARE
    wanted INTEGER;
    quizzes_count INTEGER;
    actions_count INTEGER;
    a INTEGER;
    b INTEGER;
    c INTEGER;
BEGIN
    FOREACH wanted IN ARRAY difficulties LOOP
        quizzes_count := (SELECT MAX(s.slot) FROM quiz_slots s WHERE s.difficulty = wanted);
        actions_count := (SELECT MAX(s.slot) FROM action_slots s WHERE s.difficulty = wanted);
        -- a of n, b of the n - 1 others, c of the n - 2 others; where there are not as many, a slot
        -- that does not exist
        a := 1 + floor(random() * quizzes_count);
        b := 1 + floor(random() * (quizzes_count - 1));
        IF b >= a THEN b := b + 1; END IF;
        c := 1 + floor(random() * greatest(quizzes_count - 2, 0));
        IF c >= least(a, b) THEN c := c + 1; END IF;
        IF c >= greatest(a, b) THEN c := c + 1; END IF;
        quiz_ids := array_remove(ARRAY[
            (SELECT s.quiz_id FROM quiz_slots s WHERE s.difficulty = wanted AND s.slot = a),
            (SELECT s.quiz_id FROM quiz_slots s WHERE s.difficulty = wanted AND s.slot = b),
            (SELECT s.quiz_id FROM quiz_slots s WHERE s.difficulty = wanted AND s.slot = c)
        ], NULL);
        a := 1 + floor(random() * actions_count);
        action_id := (SELECT s.action_id FROM action_slots s WHERE s.difficulty = wanted AND s.slot = a);
        RETURN NEXT;
    END LOOP;
END;
$$;
