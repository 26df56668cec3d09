"""The servers of Redis, over connections that reconnect; knows no keys and no messages.

From the outside in: `shards.Redis` is all servers, `server.RedisServer` is one of them. A server is
a pair of `link.Link`s, each of which keeps one `connection.Connection` up: `dial` connects to an
address from `urls` or `sentinel`, `greeting` logs in, `subscriptions` restores the channels.
"""
