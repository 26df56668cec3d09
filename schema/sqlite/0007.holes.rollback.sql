-- The messages stay; clients that return are not told that some may be lost.
ALTER TABLE chat_rooms DROP COLUMN hole_id;
