-- The messages stay; the sizes are counted again when this is migrated anew.
ALTER TABLE chat_rooms DROP COLUMN posted_at;

ALTER TABLE chat_rooms DROP COLUMN bytes;
