-- The answer, its epoch, the refusal, the time.
local id = ARGV[1]
local answer = P .. 'answer:' .. id
if is_running(id, ARGV[2]) then
  free_key(id)
  redis.call('HSET', answer, 'refusal', ARGV[3])
  finish(id, 'refused', ARGV[4], redis.call('HGET', answer, 'bytes') or 0)
end
