-- Ids jump to the present after a start, and on a database that was restored (docs/decisions/0003-history-ids.md),
-- so the messages of a room are counted.

ALTER TABLE chat_rooms ADD COLUMN
    messages INTEGER NOT NULL DEFAULT 0;  -- how many it keeps: its rows in chat_messages from oldest_id on

UPDATE chat_rooms SET messages = (
    SELECT COUNT(*) FROM chat_messages m WHERE m.room = chat_rooms.name AND m.id >= chat_rooms.oldest_id
);
