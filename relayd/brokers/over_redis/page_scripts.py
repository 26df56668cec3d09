"""The scripts that read the pages of a room in Redis, and find out there what is lost.

Under `history`, whose module has the keys; on `epochs`.
"""

from relayd.brokers.over_redis.epochs import EPOCH, FORMAT
from relayd.redis.commands import Script

# The first messages from an id on, bounded in number and in bytes; at least one, if there is any.
# XRANGE has no bound in bytes, so as many are fetched as probably fit by the mean of those before.
_PAGE = (
    FORMAT
    + """
local function page(answer, messages, from, limit, size)
  local found, total, want = {}, 0, 4
  while #found < limit and total < size do
    local part = redis.call('XRANGE', messages, from, '+', 'COUNT', math.min(want, limit - #found))
    for _, entry in ipairs(part) do
      local body = entry[2][4] or ''
      if #found > 0 and total + #body > size then part = {} break end
      total = total + #body
      found[#found + 1] = {body, string.match(entry[1], '%d+')}
    end
    if #part == 0 then break end
    from = text(tonumber(found[#found][2]) + 1)
    want = math.min(4 * want, math.floor((size - total) * #found / math.max(total, 1)) + 1)
  end
  for _, each in ipairs(found) do answer[#answer + 1] = each[1] end
  for _, each in ipairs(found) do answer[#answer + 1] = each[2] end
  return answer
end
"""
)

# KEYS: messages and ids of the room, epoch
# ARGV: id, most entries, most bytes, the last id that the asking process has shown, and its JSON,
# `known` and `facts` of `epochs`, and ms without a message after which the room goes
SINCE = Script(
    _PAGE
    + EPOCH
    + """
local messages, ids, epoch = unpack(KEYS)
local id, shown, known, facts = tonumber(ARGV[1]), tonumber(ARGV[4]), ARGV[6], ARGV[7]
local store, room = settle(epoch, known, facts), look(ids)
local function at(place) return redis.call('XRANGE', messages, place, place)[1] end
local function kept(command, from, to)
  local found = redis.call(command, messages, from, to, 'COUNT', 1)[1]
  return found and tonumber(string.match(found[1], '%d+'))
end
local first_kept = kept('XRANGE', '-', '+') or room.last + 1

-- A client has seen an id of which nobody else knows: the next ones are above it. It may also be a
-- stranger's word, so it counts up to a day ahead. The ids skip one more, for the `gap` of others.
local function surpass(id)
  local clock = redis.call('TIME')
  if id > clock[1] * 1000 + 86400000 then return end
  if room.last > 0 then
    redis.pcall('HSET', ids, 'last', text(id + 1), 'jump', text(id + 1), 'edge', text(room.last))
  end
  if id >= store.top then redis.pcall('HSET', epoch, 'top', text(id + 1)) end
end

-- a message that was shown is missing, or its id is another's now
local whole = room.epoch == store.base or store.verdict == '1' or store.waits
if whole and room.last > 0 and shown >= first_kept and shown > room.hole then
  local found = shown <= room.last and at(text(shown))
  if not found or ARGV[5] ~= '' and found[2][4] ~= ARGV[5] then
    local line = string.match(known, '^%S*')
    local serial, highest = string.match(facts, '(%d+) (%d+)')
    highest = text(math.max(tonumber(highest), shown))
    local doubt = shown > tonumber(store.base) and ' ?' .. store.base or ' !'
    store = settle(epoch, line .. doubt, serial .. ' ' .. highest)
  end
end
if store.waits then return redis.status_reply('WAIT') end
join(store, epoch, messages, ids, room, tonumber(ARGV[8]))
if not kept('XRANGE', '-', '+') then first_kept = room.last + 1 end
local asked = id
if id > room.last then id = 0 end
local met = id == room.last or id == room.edge or id == room.jump or id == first_kept - 1
met = met or at(text(id))
local answer = {text(room.first), text(first_kept), text(room.last), text(room.hole),
  met and 1 or 0, text(kept('XREVRANGE', '+', '-') or 0)}
for _, word in ipairs(report(store, epoch)) do answer[#answer + 1] = word end
if asked > room.last then surpass(asked) end
return page(answer, messages, text(id + 1), tonumber(ARGV[2]), tonumber(ARGV[3]))
"""
)

# ARGV: how many, most entries, most bytes
LAST = Script(
    _PAGE
    + """
local messages, ids = KEYS[1], KEYS[2]
local count = tonumber(ARGV[1])
local found = redis.call('HMGET', ids, 'last', 'hole', 'jump')
local last, hole = tonumber(found[1] or 0), tonumber(found[2] or 0)
hole = math.max(hole, tonumber(found[3] or 0))
local from = last - count + 1
if hole >= from or last == 0 then
  -- ids are missing, so the messages are counted
  local seen, before = 0, '+'
  repeat
    local part = redis.call('XREVRANGE', messages, before, '-', 'COUNT', 10)
    for _, entry in ipairs(part) do
      if seen < count then
        seen, from = seen + 1, tonumber(string.match(entry[1], '%d+'))
      end
      last = math.max(last, from)
    end
    before = text(from - 1)
  until #part < 10 or seen >= count or from < 1
end
local limit = math.min(count, tonumber(ARGV[2]))
return page({text(last)}, messages, text(math.max(from, 0)), limit, tonumber(ARGV[3]))
"""
)
