"""What became of messages whose script was sent to Redis, and whose answer is lost.

Under `outgoing`. The connection has ended, so the script may have been carried out, or may still
wait in a socket that Redis has not read. One further script decides that: it raises a fence, so
that the earlier one does nothing from now on, and looks for its messages in the room.

    <prefix>:{chat/ROOM}:fence:<process>  Unix time in ms: scripts of the process whose window ends
                                          until then do nothing; expires soon after it
"""

from collections.abc import Sequence

from relayd.brokers.over_redis.keeping import Keys, tagged
from relayd.errors import RedisUnavailable
from relayd.redis.commands import Word
from relayd.redis.server import RedisServer
from relayd.redis.store_clock import timely
from relayd.wire import ChatDraft, ChatEntry

_MOST = 5000
"""Newest messages of a room that are searched."""
_MARGIN = 60_000
"""Milliseconds; the clocks of the processes on one Redis differ by less."""

# KEYS: messages and ids of the room, the fence, the tags of the room
# ARGV: the end of the earlier script's window, a Unix time in ms before the messages were sent, how
# many messages are searched, and the words of `keeping.tagged`
# Answers whether the search has reached the messages from before, the id of each message, or 0, and
# the JSON of those that had their ids before, by their tags.
_FIND = timely("""
local lifetime = math.max(0, tonumber(ARGV[1]) - store_now) + 1000
redis.call('SET', KEYS[3], ARGV[1], 'PX', string.format('%.0f', lifetime))
local since, most = tonumber(ARGV[2]), tonumber(ARGV[3])
local wanted, answer, bodies, texts = {}, {0}, {}, 5 + 2 * ARGV[4]
for i = texts, #ARGV - 2, 2 do
  local text = ARGV[i] .. ARGV[i + 1]
  wanted[text] = wanted[text] or {}
  table.insert(wanted[text], #answer + 1)
  answer[#answer + 1] = '0'
  bodies[#bodies + 1] = ''
end
local function found()
  for i = 5, texts - 1, 2 do
    local place = tonumber(ARGV[i])
    local id = answer[place + 1] == '0' and redis.call('ZSCORE', KEYS[4], ARGV[i + 1])
    id = id and string.format('%.0f', tonumber(id))
    local entry = id and redis.call('XRANGE', KEYS[1], id, id)[1]
    if entry then answer[place + 1], bodies[place] = id, entry[2][4] or '' end
  end
  return {answer, bodies}
end
local before, searched = '+', 0
repeat
  local part = redis.call('XREVRANGE', KEYS[1], before, '-', 'COUNT', 100)
  for _, entry in ipairs(part) do
    local id, body = string.match(entry[1], '%d+'), entry[2][4] or ''
    if (tonumber(entry[2][2]) or 0) < since then
      answer[1] = 1
      return found()
    end
    -- a quotation mark inside of a text has a backslash before it
    local from, to = string.find(body, '"id":' .. id, 1, true)
    local places = from and wanted[string.sub(body, 1, from + 4) .. string.sub(body, to + 1)]
    if places and #places > 0 then answer[table.remove(places)] = id end
    searched = searched + 1
    before = string.format('%.0f', tonumber(id) - 1)
  end
until #part < 100 or searched >= most
if searched < most then
  -- the stream has ended: was there an older message that has gone?
  local first = redis.call('HGET', KEYS[2], 'first')
  if not first or searched > 0 and tonumber(before) < tonumber(first) then answer[1] = 1 end
end
return found()
""")


class Outcomes:
    """Finds out what became of messages.

    Args:
        keys: the names of the rooms' keys.
        process: the unique id of this process.
    """

    def __init__(self, keys: Keys, process: str) -> None:
        self._keys = keys
        self._process = process

    async def find(
        self,
        server: RedisServer,
        room: str,
        drafts: Sequence[ChatDraft],
        now: int,
        *,
        end: int,
        seconds: float,
    ) -> list[ChatEntry | None]:
        """Looks for messages in a room; those that are not there will never be.

        Args:
            server: the room's.
            room: the room's name.
            drafts: the messages of one script, in its order.
            now: the Unix time in ms that they were sent with.
            end: of the window of their script (`errors.RedisUnanswered`).
            seconds: until the deadline of this search.

        Returns:
            The entries; None for a message that was not stored.

        Raises:
            RedisUnavailable: the outcome stays unknown.
            RedisRefused: likewise.
        """
        keys = (
            *self._keys.of(room),
            *(self._keys.fence(room, self._process), self._keys.tags(room)),
        )
        words: tuple[Word, ...] = (end, now - _MARGIN, _MOST, *tagged(drafts))
        answer, bodies = await server.run_timely(_FIND, keys, words, seconds)
        complete, *ids = map(int, answer)
        if not complete and 0 in ids:
            raise RedisUnavailable(f"{room}: the messages since then are too many to search")
        return [
            ChatEntry(id, body, repeated=True) if body else draft.entry(id) if id else None
            for draft, id, body in zip(drafts, ids, bodies, strict=True)
        ]
