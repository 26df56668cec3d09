-- Every message that was kept is lost.
DROP TABLE chat_messages;
DROP TABLE chat_rooms;
