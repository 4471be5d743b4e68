-- The answer, its epoch, the new writer.
local id, epoch, writer = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if is_running(id, epoch) then
  redis.call('HSET', P .. 'answer:' .. id, 'epoch', epoch + 1, 'writer', writer)
  redis.call('HSET', P .. 'running', id, writer)
  return 1
end
local taken, by = is_running(id, epoch + 1)
return taken and by == writer and 1 or 0
