-- The chat rooms' history. docs/decisions/0003-history-ids.md says how ids are given.

CREATE TABLE chat_rooms (
    name TEXT PRIMARY KEY,  -- as in the path; at most 100 characters
    first_id INTEGER NOT NULL,       -- id of the first message ever: then the Unix time in milliseconds
    oldest_id INTEGER NOT NULL,      -- id of the oldest message that is kept; what is older may be deleted
    last_id INTEGER NOT NULL         -- id of the newest message; the next one gets last_id + 1
) WITHOUT ROWID;

CREATE TABLE chat_messages (
    room TEXT NOT NULL,     -- chat_rooms.name
    id INTEGER NOT NULL,             -- consecutive within the room
    body TEXT NOT NULL,            -- the JSON text that every client sees; holds its time (UTC)
    PRIMARY KEY (room, id)
);
