"""What Redis does in one step: Lua scripts. Each is atomic, so no worker sees half of one.

`answer:<id>` is a hash, the record, without the fields that are None. `log:<id>` is a stream, a
segment an entry; an entry's id is one of its events, which makes it findable by an event. `running`
tells each running answer's writer; `ended` sorts the others by their ends, and `sizes` and `bytes`
count what these have. Keys that belong to one answer expire, should nobody ever tidy.
"""

from typing import Final

_COMMON: Final = """
local P, TTL = 'chatapp:', 30 * 86400
local RUNNING = {pending = true, streaming = true}

local function key_of(id)
  local found = redis.call('HMGET', P .. 'answer:' .. id, 'owner', 'key')
  if not found[2] then return nil end
  return P .. 'key:' .. #found[1] .. ':' .. found[1] .. ':' .. found[2]
end

local function free_key(id)
  local key = key_of(id)
  if key and redis.call('GET', key) == id then redis.call('DEL', key) end
end

local function is_running(id, epoch)
  local found = redis.call('HMGET', P .. 'answer:' .. id, 'epoch', 'status', 'writer')
  return tonumber(found[1]) == tonumber(epoch) and RUNNING[found[2]], found[3]
end

local function finish(id, status, now, bytes)
  local answer = P .. 'answer:' .. id
  redis.call('HSET', answer, 'status', status)
  redis.call('HDEL', answer, 'request')
  redis.call('HDEL', P .. 'running', id)
  redis.call('SREM', P .. 'stops', id)
  redis.call('ZADD', P .. 'ended', now, id)
  redis.call('HSET', P .. 'sizes', id, bytes)
  redis.call('INCRBY', P .. 'bytes', bytes)
  redis.call('EXPIRE', answer, TTL)
  redis.call('EXPIRE', P .. 'log:' .. id, TTL)
end

local function forget(id)
  free_key(id)
  redis.call('UNLINK', P .. 'answer:' .. id, P .. 'log:' .. id)
  redis.call('HDEL', P .. 'running', id)
  redis.call('SREM', P .. 'stops', id)
  redis.call('ZREM', P .. 'ended', id)
  local size = redis.call('HGET', P .. 'sizes', id)
  if size then
    redis.call('HDEL', P .. 'sizes', id)
    redis.call('DECRBY', P .. 'bytes', size)
  end
end
"""

# id, then the record's names and values.
CLAIM: Final = (
    _COMMON
    + """
local id = ARGV[1]
local answer = P .. 'answer:' .. id
if redis.call('EXISTS', answer) == 0 then
  redis.call('HSET', answer, unpack(ARGV, 2))
  local key = key_of(id)
  local holder = key and redis.call('GET', key)
  if holder and redis.call('EXISTS', P .. 'answer:' .. holder) == 1 then
    redis.call('DEL', answer)
    return redis.call('HGETALL', P .. 'answer:' .. holder)
  end
  if key then redis.call('SET', key, id, 'EX', TTL) end
  redis.call('EXPIRE', answer, TTL)
  redis.call('HSET', P .. 'running', id, redis.call('HGET', answer, 'writer') or '')
  if redis.call('HEXISTS', answer, 'stop') == 1 then redis.call('SADD', P .. 'stops', id) end
end
return redis.call('HGETALL', answer)
"""
)

# The writer, the time, where publications begin; segments, states and posts, as MessagePack without
# their bytes, which Redis's reader does not know; the segments' bytes, joined; each post's.
WRITE: Final = (
    _COMMON
    + """
local writer, now = ARGV[1], ARGV[2]
local answers, changed, lost = {}, {}, {}

local function find(id)
  local found = answers[id]
  if found == nil then
    local has = redis.call('HMGET', P .. 'answer:' .. id, 'epoch', 'status', 'last_event', 'bytes')
    found = has[1] and {epoch = tonumber(has[1]), status = has[2], last = tonumber(has[3]),
                        bytes = tonumber(has[4] or '0')}
    answers[id] = found
  end
  return found
end

local function drop_from(answer, log, first)
  for _, entry in ipairs(redis.call('XRANGE', log, first, '+')) do
    answer.bytes = answer.bytes - #entry[2][8]
    redis.call('XDEL', log, entry[1])
  end
end

local function append(id, epoch, first, last, wire)
  local answer, log = find(id), P .. 'log:' .. id
  if not answer or answer.epoch ~= epoch or first > answer.last + 1 then return false end
  if first <= answer.last then
    local entry = redis.call('XRANGE', log, first, '+', 'COUNT', 1)[1]
    if not entry or tonumber(entry[2][2]) ~= first or tonumber(entry[2][6]) ~= epoch then
      return false
    end
    if last <= answer.last then return true end
  end
  if not RUNNING[answer.status] then return false end
  if first <= answer.last then drop_from(answer, log, first) end
  redis.call('XADD', log, (answer.last + 1) .. '-0', 'f', first, 'l', last, 'e', epoch, 'w', wire)
  if answer.bytes == 0 then redis.call('EXPIRE', log, TTL) end
  answer.last, answer.bytes = last, answer.bytes + #wire
  changed[id] = answer
  return true
end

local function move(id, epoch, status, last)
  local answer = find(id)
  if not answer or answer.epoch ~= epoch then return false end
  if not RUNNING[answer.status] then return answer.status == status end
  if RUNNING[status] then
    redis.call('HSET', P .. 'answer:' .. id, 'status', status)
  elseif last ~= answer.last then
    return false
  else
    finish(id, status, now, answer.bytes)
  end
  answer.status = status
  return true
end

local wires, at = ARGV[7], 0
for _, each in ipairs(cmsgpack.unpack(ARGV[4])) do
  local id, epoch, first, last, size = unpack(each)
  if not lost[id] and not append(id, epoch, first, last, wires:sub(at + 1, at + size)) then
    lost[id] = true
  end
  at = at + size
end
for id, answer in pairs(changed) do
  redis.call('HSET', P .. 'answer:' .. id, 'last_event', answer.last, 'bytes', answer.bytes)
end
for _, each in ipairs(cmsgpack.unpack(ARGV[5])) do
  if not lost[each[1]] and not move(unpack(each)) then lost[each[1]] = true end
end

local stops, refused = {}, {}
for _, id in ipairs(redis.call('SMEMBERS', P .. 'stops')) do
  if redis.call('HGET', P .. 'running', id) == writer then stops[#stops + 1] = id end
end
for id in pairs(lost) do refused[#refused + 1] = id end

local posts, number = cmsgpack.unpack(ARGV[6]), 0
if #posts > 0 then
  number = tonumber(redis.call('GET', P .. 'published') or ARGV[3])
  for i, each in ipairs(posts) do
    number = number + 1
    local id = string.format('%.0f-0', number)
    redis.call('XADD', P .. 'publications', id, 'at', now, 'data', ARGV[7 + i], unpack(each))
  end
  redis.call('SET', P .. 'published', string.format('%.0f', number))
end
return {refused, stops, number}
"""
)

# Answers and cursors in turn (MessagePack), and how many bytes at the most.
READ: Final = (
    _COMMON
    + """
local waiting, missing, heads, wires, size, room = {}, {}, {}, {}, 0, tonumber(ARGV[2])
for _, each in ipairs(cmsgpack.unpack(ARGV[1])) do
  local id, cursor = each[1], each[2]
  local last = redis.call('HGET', P .. 'answer:' .. id, 'last_event')
  if not last then
    missing[#missing + 1] = id
  elseif tonumber(last) > cursor then
    local before = redis.call('XREVRANGE', P .. 'log:' .. id, cursor, '-', 'COUNT', 1)[1]
    waiting[#waiting + 1] = {id = id, cursor = cursor, from = before and before[1] or '-'}
  end
end
local count = 2
while #waiting > 0 do
  local further = {}
  for _, each in ipairs(waiting) do
    local entries = redis.call('XRANGE', P .. 'log:' .. each.id, each.from, '+', 'COUNT', count)
    for _, entry in ipairs(entries) do
      local fields = entry[2]
      local last, wire = tonumber(fields[4]), fields[8]
      if last > each.cursor then
        size = size + #wire
        if size > room and #wires > 0 then
          return {missing, cmsgpack.pack(heads), table.concat(wires)}
        end
        heads[#heads + 1] = {each.id, tonumber(fields[6]), tonumber(fields[2]), last, #wire}
        wires[#wires + 1] = wire
      end
    end
    if #entries == count then
      each.from = '(' .. entries[count][1]
      further[#further + 1] = each
    end
  end
  waiting, count = further, count * 2
end
return {missing, #heads > 0 and cmsgpack.pack(heads) or '', table.concat(wires)}
"""
)

REQUEST_STOP: Final = (
    _COMMON
    + """
if redis.call('HEXISTS', P .. 'running', ARGV[1]) == 1 then
  redis.call('HSET', P .. 'answer:' .. ARGV[1], 'stop', 1)
  redis.call('SADD', P .. 'stops', ARGV[1])
end
"""
)

# The answer, its epoch.
RELEASE: Final = (
    _COMMON
    + """
if is_running(ARGV[1], ARGV[2]) then
  redis.call('HDEL', P .. 'answer:' .. ARGV[1], 'writer')
  redis.call('HSET', P .. 'running', ARGV[1], '')
end
"""
)

# The answer, its epoch, the refusal, the time.
REFUSE: Final = (
    _COMMON
    + """
local id = ARGV[1]
local answer = P .. 'answer:' .. id
if is_running(id, ARGV[2]) then
  free_key(id)
  redis.call('HDEL', answer, 'key')
  redis.call('HSET', answer, 'refusal', ARGV[3])
  finish(id, 'refused', ARGV[4], redis.call('HGET', answer, 'bytes') or 0)
end
"""
)

# The answer, its epoch, the new writer.
TAKE: Final = (
    _COMMON
    + """
local id, epoch, writer = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if is_running(id, epoch) then
  redis.call('HSET', P .. 'answer:' .. id, 'epoch', epoch + 1, 'writer', writer)
  redis.call('HSET', P .. 'running', id, writer)
  return 1
end
local taken, by = is_running(id, epoch + 1)
return taken and by == writer and 1 or 0
"""
)

DISCARD: Final = _COMMON + "for _, id in ipairs(ARGV) do forget(id) end"

# How many at the most, then the workers that are alive.
ORPHANS: Final = (
    _COMMON
    + """
local alive, found, most = {}, {}, tonumber(ARGV[1])
for i = 2, #ARGV do alive[ARGV[i]] = true end
local running = redis.call('HGETALL', P .. 'running')
for i = 1, #running, 2 do
  if not alive[running[i + 1]] and #found < most then
    local answer = redis.call('HGETALL', P .. 'answer:' .. running[i])
    if #answer == 0 then forget(running[i]) else found[#found + 1] = answer end
  end
end
return found
"""
)

# Ended before, bytes at the most, published before, publications at the most. How many answers it
# forgot: it stops after some, for everybody waits meanwhile.
TIDY: Final = (
    _COMMON
    + """
local forgotten = 0
while forgotten < 200 do
  local oldest = redis.call('ZRANGE', P .. 'ended', 0, 0, 'WITHSCORES')
  local bytes = tonumber(redis.call('GET', P .. 'bytes') or '0')
  if not oldest[1] or (tonumber(oldest[2]) >= tonumber(ARGV[1]) and bytes <= tonumber(ARGV[2])) then
    break
  end
  forget(oldest[1])
  forgotten = forgotten + 1
end
local posts = P .. 'publications'
redis.call('XTRIM', posts, 'MAXLEN', ARGV[4])
while true do
  local oldest = redis.call('XRANGE', posts, '-', '+', 'COUNT', 1)[1]
  if not oldest or tonumber(oldest[2][2]) >= tonumber(ARGV[3]) then break end
  redis.call('XDEL', posts, oldest[1])
end
return forgotten
"""
)
