-- Ended before, bytes at the most, published before, publications at the most. How many answers it
-- forgot: it stops after some, for everybody waits meanwhile.
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
