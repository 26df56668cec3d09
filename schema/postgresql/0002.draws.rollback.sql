-- The triggers go with their function.
DROP FUNCTION relayd_slots() CASCADE;
DROP FUNCTION relayd_draw(INTEGER[]);
DROP TABLE slot_guards;
DROP TABLE action_slots;
DROP TABLE quiz_slots;
