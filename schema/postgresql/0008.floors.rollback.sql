-- The messages stay; rooms that were created after a backup that was restored may give ids a second time.
DROP TABLE chat_floors;
