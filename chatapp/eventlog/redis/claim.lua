-- id, then the record's names and values.
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
