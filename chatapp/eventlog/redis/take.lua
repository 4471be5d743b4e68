-- The answer, its epoch, the new writer.
local id, epoch, writer = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local runs, before = is_running(id, epoch)
if runs then
  if before then redis.call('HINCRBY', P .. 'answer:' .. id, 'crashes', 1) end
  redis.call('HSET', P .. 'answer:' .. id, 'epoch', epoch + 1, 'writer', writer)
  redis.call('HSET', P .. 'running', id, writer)
  return 1
end
local taken, by = is_running(id, epoch + 1)
return taken and by == writer and 1 or 0
