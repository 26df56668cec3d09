-- The chat rooms' history. docs/decisions/0003-history-ids.md says how ids are given.

CREATE TABLE chat_rooms (
    name TEXT COLLATE "C" PRIMARY KEY,  -- as in the path; at most 100 characters
    first_id BIGINT NOT NULL,       -- id of the first message ever: then the Unix time in milliseconds
    oldest_id BIGINT NOT NULL,      -- id of the oldest message that is kept; what is older may be deleted
    last_id BIGINT NOT NULL         -- id of the newest message; the next one gets last_id + 1
);

CREATE TABLE chat_messages (
    room TEXT COLLATE "C" NOT NULL,     -- chat_rooms.name
    id BIGINT NOT NULL,             -- consecutive within the room
    body TEXT NOT NULL,            -- the JSON text that every client sees; holds its time (UTC)
    PRIMARY KEY (room, id)
);
