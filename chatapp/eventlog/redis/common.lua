-- What all scripts begin with.
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
  redis.call('HDEL', P .. 'answer:' .. id, 'key')
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
  redis.call('HDEL', P .. 'reads', id)
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
  redis.call('HDEL', P .. 'reads', id)
  redis.call('ZREM', P .. 'ended', id)
  local size = redis.call('HGET', P .. 'sizes', id)
  if size then
    redis.call('HDEL', P .. 'sizes', id)
    redis.call('DECRBY', P .. 'bytes', size)
  end
end
