-- The writer, the time, where publications begin; segments, states and posts, as MessagePack
-- without their bytes, which Redis's reader does not know; the segments' bytes, joined; each post's.
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

local function move(id, epoch, status, last, frees_key)
  local answer = find(id)
  if not answer or answer.epoch ~= epoch then return false end
  if not RUNNING[answer.status] then return answer.status == status end
  if RUNNING[status] then
    redis.call('HSET', P .. 'answer:' .. id, 'status', status)
  elseif last ~= answer.last then
    return false
  else
    if frees_key then free_key(id) end
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

local stops, reads, refused = {}, {}, {}
for _, id in ipairs(redis.call('SMEMBERS', P .. 'stops')) do
  if redis.call('HGET', P .. 'running', id) == writer then stops[#stops + 1] = id end
end
for _, id in ipairs(redis.call('HKEYS', P .. 'reads')) do
  local ours = redis.call('HGET', P .. 'running', id) == writer
  if ours then reads[#reads + 1] = {id, tonumber(redis.call('HGET', P .. 'reads', id))} end
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
return {refused, stops, number, reads}
