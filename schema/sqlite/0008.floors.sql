-- A room that was created after a backup is not in it, and may be created once more after the restore.

CREATE TABLE chat_floors (
    lowest_id INTEGER NOT NULL  -- new rooms begin above it: no id up to it is given a second time
);
