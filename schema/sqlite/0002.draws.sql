-- Dense slots, so that a draw costs a few primary-key look-ups however large the tables are: the rows
-- of each difficulty are numbered 1 to n without a gap. The numbers say nothing else and change when
-- rows are deleted. Triggers keep them, whoever changes the tables.
-- docs/decisions/0002-draws.md has the reasons.
--
-- How a trigger takes an id out, in three steps without a variable: its slot becomes negative, which
-- marks the hole; the last slot of that difficulty moves into the hole; the marked row is deleted.

CREATE TABLE quiz_slots (
    difficulty INTEGER NOT NULL,  -- quizzes.difficulty
    slot INTEGER NOT NULL,        -- 1 to the number of quizzes of this difficulty, without a gap
    quiz_id INTEGER NOT NULL,     -- quizzes.id
    PRIMARY KEY (difficulty, slot)
) WITHOUT ROWID;

CREATE TABLE action_slots (
    difficulty INTEGER NOT NULL,  -- actions.difficulty
    slot INTEGER NOT NULL,        -- 1 to the number of actions of this difficulty, without a gap
    action_id INTEGER NOT NULL,   -- actions.id
    PRIMARY KEY (difficulty, slot)
) WITHOUT ROWID;

INSERT INTO quiz_slots (difficulty, slot, quiz_id)
SELECT difficulty, row_number() OVER (PARTITION BY difficulty ORDER BY id), id
FROM quizzes WHERE typeof(difficulty) = 'integer';

CREATE INDEX quiz_slots_quiz_id ON quiz_slots (quiz_id);

INSERT INTO action_slots (difficulty, slot, action_id)
SELECT difficulty, row_number() OVER (PARTITION BY difficulty ORDER BY id), id
FROM actions WHERE typeof(difficulty) = 'integer';

CREATE INDEX action_slots_action_id ON action_slots (action_id);

-- INSERT OR REPLACE deletes the old row without a delete trigger, so its slot may still be there.
CREATE TRIGGER relayd_quiz_slots_insert AFTER INSERT ON quizzes
BEGIN
    UPDATE quiz_slots SET slot = -slot WHERE quiz_id = NEW.id;
    UPDATE quiz_slots SET slot = (SELECT -h.slot FROM quiz_slots h WHERE h.quiz_id = NEW.id)
    WHERE difficulty = (SELECT h.difficulty FROM quiz_slots h WHERE h.quiz_id = NEW.id)
        AND slot = (
            SELECT MAX(t.slot) FROM quiz_slots t
            WHERE t.difficulty = (SELECT h.difficulty FROM quiz_slots h WHERE h.quiz_id = NEW.id)
        )
        AND slot > (SELECT -h.slot FROM quiz_slots h WHERE h.quiz_id = NEW.id);
    DELETE FROM quiz_slots WHERE quiz_id = NEW.id;
    INSERT INTO quiz_slots (difficulty, slot, quiz_id)
    SELECT NEW.difficulty,
        1 + COALESCE((SELECT MAX(s.slot) FROM quiz_slots s WHERE s.difficulty = NEW.difficulty), 0), NEW.id
    WHERE typeof(NEW.difficulty) = 'integer';
END;

-- UPDATE OR REPLACE may have deleted another row, the one that had the new id.
CREATE TRIGGER relayd_quiz_slots_update AFTER UPDATE OF id, difficulty ON quizzes
WHEN OLD.id <> NEW.id OR OLD.difficulty IS NOT NEW.difficulty
BEGIN
    UPDATE quiz_slots SET slot = -slot WHERE quiz_id = OLD.id;
    UPDATE quiz_slots SET slot = (SELECT -h.slot FROM quiz_slots h WHERE h.quiz_id = OLD.id)
    WHERE difficulty = (SELECT h.difficulty FROM quiz_slots h WHERE h.quiz_id = OLD.id)
        AND slot = (
            SELECT MAX(t.slot) FROM quiz_slots t
            WHERE t.difficulty = (SELECT h.difficulty FROM quiz_slots h WHERE h.quiz_id = OLD.id)
        )
        AND slot > (SELECT -h.slot FROM quiz_slots h WHERE h.quiz_id = OLD.id);
    DELETE FROM quiz_slots WHERE quiz_id = OLD.id;
    UPDATE quiz_slots SET slot = -slot WHERE quiz_id = NEW.id;
    UPDATE quiz_slots SET slot = (SELECT -h.slot FROM quiz_slots h WHERE h.quiz_id = NEW.id)
    WHERE difficulty = (SELECT h.difficulty FROM quiz_slots h WHERE h.quiz_id = NEW.id)
        AND slot = (
            SELECT MAX(t.slot) FROM quiz_slots t
            WHERE t.difficulty = (SELECT h.difficulty FROM quiz_slots h WHERE h.quiz_id = NEW.id)
        )
        AND slot > (SELECT -h.slot FROM quiz_slots h WHERE h.quiz_id = NEW.id);
    DELETE FROM quiz_slots WHERE quiz_id = NEW.id;
    INSERT INTO quiz_slots (difficulty, slot, quiz_id)
    SELECT NEW.difficulty,
        1 + COALESCE((SELECT MAX(s.slot) FROM quiz_slots s WHERE s.difficulty = NEW.difficulty), 0), NEW.id
    WHERE typeof(NEW.difficulty) = 'integer';
END;

CREATE TRIGGER relayd_quiz_slots_delete AFTER DELETE ON quizzes
BEGIN
    UPDATE quiz_slots SET slot = -slot WHERE quiz_id = OLD.id;
    UPDATE quiz_slots SET slot = (SELECT -h.slot FROM quiz_slots h WHERE h.quiz_id = OLD.id)
    WHERE difficulty = (SELECT h.difficulty FROM quiz_slots h WHERE h.quiz_id = OLD.id)
        AND slot = (
            SELECT MAX(t.slot) FROM quiz_slots t
            WHERE t.difficulty = (SELECT h.difficulty FROM quiz_slots h WHERE h.quiz_id = OLD.id)
        )
        AND slot > (SELECT -h.slot FROM quiz_slots h WHERE h.quiz_id = OLD.id);
    DELETE FROM quiz_slots WHERE quiz_id = OLD.id;
END;

CREATE TRIGGER relayd_action_slots_insert AFTER INSERT ON actions
BEGIN
    UPDATE action_slots SET slot = -slot WHERE action_id = NEW.id;
    UPDATE action_slots SET slot = (SELECT -h.slot FROM action_slots h WHERE h.action_id = NEW.id)
    WHERE difficulty = (SELECT h.difficulty FROM action_slots h WHERE h.action_id = NEW.id)
        AND slot = (
            SELECT MAX(t.slot) FROM action_slots t
            WHERE t.difficulty = (SELECT h.difficulty FROM action_slots h WHERE h.action_id = NEW.id)
        )
        AND slot > (SELECT -h.slot FROM action_slots h WHERE h.action_id = NEW.id);
    DELETE FROM action_slots WHERE action_id = NEW.id;
    INSERT INTO action_slots (difficulty, slot, action_id)
    SELECT NEW.difficulty,
        1 + COALESCE((SELECT MAX(s.slot) FROM action_slots s WHERE s.difficulty = NEW.difficulty), 0), NEW.id
    WHERE typeof(NEW.difficulty) = 'integer';
END;

CREATE TRIGGER relayd_action_slots_update AFTER UPDATE OF id, difficulty ON actions
WHEN OLD.id <> NEW.id OR OLD.difficulty IS NOT NEW.difficulty
BEGIN
    UPDATE action_slots SET slot = -slot WHERE action_id = OLD.id;
    UPDATE action_slots SET slot = (SELECT -h.slot FROM action_slots h WHERE h.action_id = OLD.id)
    WHERE difficulty = (SELECT h.difficulty FROM action_slots h WHERE h.action_id = OLD.id)
        AND slot = (
            SELECT MAX(t.slot) FROM action_slots t
            WHERE t.difficulty = (SELECT h.difficulty FROM action_slots h WHERE h.action_id = OLD.id)
        )
        AND slot > (SELECT -h.slot FROM action_slots h WHERE h.action_id = OLD.id);
    DELETE FROM action_slots WHERE action_id = OLD.id;
    UPDATE action_slots SET slot = -slot WHERE action_id = NEW.id;
    UPDATE action_slots SET slot = (SELECT -h.slot FROM action_slots h WHERE h.action_id = NEW.id)
    WHERE difficulty = (SELECT h.difficulty FROM action_slots h WHERE h.action_id = NEW.id)
        AND slot = (
            SELECT MAX(t.slot) FROM action_slots t
            WHERE t.difficulty = (SELECT h.difficulty FROM action_slots h WHERE h.action_id = NEW.id)
        )
        AND slot > (SELECT -h.slot FROM action_slots h WHERE h.action_id = NEW.id);
    DELETE FROM action_slots WHERE action_id = NEW.id;
    INSERT INTO action_slots (difficulty, slot, action_id)
    SELECT NEW.difficulty,
        1 + COALESCE((SELECT MAX(s.slot) FROM action_slots s WHERE s.difficulty = NEW.difficulty), 0), NEW.id
    WHERE typeof(NEW.difficulty) = 'integer';
END;

CREATE TRIGGER relayd_action_slots_delete AFTER DELETE ON actions
BEGIN
    UPDATE action_slots SET slot = -slot WHERE action_id = OLD.id;
    UPDATE action_slots SET slot = (SELECT -h.slot FROM action_slots h WHERE h.action_id = OLD.id)
    WHERE difficulty = (SELECT h.difficulty FROM action_slots h WHERE h.action_id = OLD.id)
        AND slot = (
            SELECT MAX(t.slot) FROM action_slots t
            WHERE t.difficulty = (SELECT h.difficulty FROM action_slots h WHERE h.action_id = OLD.id)
        )
        AND slot > (SELECT -h.slot FROM action_slots h WHERE h.action_id = OLD.id);
    DELETE FROM action_slots WHERE action_id = OLD.id;
END;
