-- The two tables that deployments have had since before relayd. A database that holds them already is
-- taken over as it is: nothing here touches an existing table.

CREATE TABLE IF NOT EXISTS quizzes (
    id SERIAL PRIMARY KEY,  -- what a headset gets in `quiz_id`; given by the database, never reused
    name VARCHAR(255),      -- title, for people
    difficulty INTEGER,     -- the number a phone asks for; a quiz without one is never drawn
    lef_sel VARCHAR(255),   -- text of the selection on the left hand
    rig_sel VARCHAR(255),   -- text of the selection on the right hand
    detail VARCHAR(255)     -- explanation, for people
);

CREATE TABLE IF NOT EXISTS actions (
    id SERIAL PRIMARY KEY,  -- what a headset gets in `action_id`; given by the database, never reused
    difficulty INTEGER,     -- as in quizzes
    lef_sel VARCHAR(255),   -- text of the selection on the left hand
    rig_sel VARCHAR(255),   -- text of the selection on the right hand
    detail VARCHAR(255)     -- explanation, for people
);
