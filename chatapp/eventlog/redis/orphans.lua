-- How many at the most, then the workers that are alive.
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
