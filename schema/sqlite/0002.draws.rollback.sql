-- quizzes and actions stay as they are.
DROP TRIGGER IF EXISTS relayd_quiz_slots_insert;
DROP TRIGGER IF EXISTS relayd_quiz_slots_update;
DROP TRIGGER IF EXISTS relayd_quiz_slots_delete;
DROP TRIGGER IF EXISTS relayd_action_slots_insert;
DROP TRIGGER IF EXISTS relayd_action_slots_update;
DROP TRIGGER IF EXISTS relayd_action_slots_delete;
DROP TABLE quiz_slots;
DROP TABLE action_slots;
