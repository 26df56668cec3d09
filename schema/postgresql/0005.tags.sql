-- The tags of chat messages, for some minutes: a message that is sent again is not kept again.

CREATE TABLE chat_tags (
    room TEXT NOT NULL,       -- chat_rooms.name
    mark TEXT NOT NULL,       -- a hash of the tag and of the user that a token named, in hexadecimal digits
    id BIGINT NOT NULL,       -- of the message, chat_messages.id
    posted_at BIGINT NOT NULL,  -- Unix time of the message in milliseconds
    PRIMARY KEY (room, mark)
);

CREATE INDEX chat_tags_posted_at ON chat_tags (posted_at);
