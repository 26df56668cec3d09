-- The messages stay; rooms whose ids have jumped keep fewer of them.
ALTER TABLE chat_rooms DROP COLUMN messages;
