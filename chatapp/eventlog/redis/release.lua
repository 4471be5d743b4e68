-- The answer, its epoch.
if is_running(ARGV[1], ARGV[2]) then
  redis.call('HDEL', P .. 'answer:' .. ARGV[1], 'writer')
  redis.call('HSET', P .. 'running', ARGV[1], '')
end
