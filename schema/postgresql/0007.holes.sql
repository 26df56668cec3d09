-- A room that was restored from a backup may lack what was said after it, and says so to clients that return.

ALTER TABLE chat_rooms ADD COLUMN
    hole_id BIGINT NOT NULL DEFAULT 0;  -- messages up to this id may be lost: an older `since` gets `gap`
