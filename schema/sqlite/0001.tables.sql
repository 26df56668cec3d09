-- The two tables that deployments have had since before relayd. A database that holds them already is
-- taken over as it is: nothing here touches an existing table. SQLite does not enforce the length in
-- VARCHAR(255), so a CHECK does.

CREATE TABLE IF NOT EXISTS quizzes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,            -- what a headset gets in `quiz_id`; never reused
    name VARCHAR(255) CHECK (length(name) <= 255),   -- title, for people
    difficulty INTEGER,                              -- the number a phone asks for; without one, a quiz is never drawn
    lef_sel VARCHAR(255) CHECK (length(lef_sel) <= 255), -- text of the selection on the left hand
    rig_sel VARCHAR(255) CHECK (length(rig_sel) <= 255), -- text of the selection on the right hand
    detail VARCHAR(255) CHECK (length(detail) <= 255)    -- explanation, for people
);

CREATE TABLE IF NOT EXISTS actions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,            -- what a headset gets in `action_id`; never reused
    difficulty INTEGER,                              -- as in quizzes
    lef_sel VARCHAR(255) CHECK (length(lef_sel) <= 255), -- text of the selection on the left hand
    rig_sel VARCHAR(255) CHECK (length(rig_sel) <= 255), -- text of the selection on the right hand
    detail VARCHAR(255) CHECK (length(detail) <= 255)    -- explanation, for people
);
