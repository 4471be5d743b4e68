-- The answer.
if redis.call('HEXISTS', P .. 'running', ARGV[1]) == 1 then
  redis.call('HSET', P .. 'answer:' .. ARGV[1], 'stop', 1)
  redis.call('SADD', P .. 'stops', ARGV[1])
end
