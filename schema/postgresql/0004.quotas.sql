-- What the quotas of the chat rooms need: the size of each room, and when it was used last.

ALTER TABLE chat_rooms ADD COLUMN
    bytes BIGINT NOT NULL DEFAULT 0;  -- of its rows in chat_messages: bodies, and 64 + 2 * the name's bytes for each

ALTER TABLE chat_rooms ADD COLUMN
    posted_at BIGINT NOT NULL DEFAULT 0;  -- Unix time of its newest message in milliseconds

UPDATE chat_rooms SET
    bytes = (
        SELECT COALESCE(SUM(OCTET_LENGTH(m.body) + 64 + 2 * OCTET_LENGTH(m.room)), 0)
        FROM chat_messages m WHERE m.room = chat_rooms.name
    ),
    posted_at = CAST(EXTRACT(EPOCH FROM NOW()) * 1000 AS BIGINT);
