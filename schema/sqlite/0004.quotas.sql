-- What the quotas of the chat rooms need: the size of each room, and when it was used last.

ALTER TABLE chat_rooms ADD COLUMN
    bytes INTEGER NOT NULL DEFAULT 0;  -- of its rows in chat_messages: bodies, and 64 + 2 * the name's bytes for each

ALTER TABLE chat_rooms ADD COLUMN
    posted_at INTEGER NOT NULL DEFAULT 0;  -- Unix time of its newest message in milliseconds

UPDATE chat_rooms SET
    bytes = (
        SELECT COALESCE(SUM(LENGTH(CAST(m.body AS BLOB)) + 64 + 2 * LENGTH(CAST(m.room AS BLOB))), 0)
        FROM chat_messages m WHERE m.room = chat_rooms.name
    ),
    posted_at = CAST(strftime('%s', 'now') AS INTEGER) * 1000;
