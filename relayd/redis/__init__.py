"""The way to Redis: connections that heal themselves, and nothing of what is said over them.

From the outside in: `shards.Redis` is all servers, `server.RedisServer` is one of them. A server is
a pair of `link.Link`s, each of which keeps one `connection.Connection` up: `dial` makes it, to an
address that `urls` or `sentinel` gave, `greeting` logs in, `subscriptions` brings back the
channels.
"""
