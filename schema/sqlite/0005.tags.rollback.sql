-- Messages that are sent again are kept again.
DROP TABLE chat_tags;
