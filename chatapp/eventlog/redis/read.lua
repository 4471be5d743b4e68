-- Answers and cursors in turn (MessagePack), and how many bytes at the most.
local waiting, missing, heads, wires, size, room = {}, {}, {}, {}, 0, tonumber(ARGV[2])
for _, each in ipairs(cmsgpack.unpack(ARGV[1])) do
  local id, cursor = each[1], each[2]
  local last = redis.call('HGET', P .. 'answer:' .. id, 'last_event')
  if not last then
    missing[#missing + 1] = id
  elseif tonumber(last) > cursor then
    local before = redis.call('XREVRANGE', P .. 'log:' .. id, cursor, '-', 'COUNT', 1)[1]
    waiting[#waiting + 1] = {id = id, cursor = cursor, from = before and before[1] or '-'}
  end
end
local count = 2
while #waiting > 0 do
  local further = {}
  for _, each in ipairs(waiting) do
    local entries = redis.call('XRANGE', P .. 'log:' .. each.id, each.from, '+', 'COUNT', count)
    for _, entry in ipairs(entries) do
      local fields = entry[2]
      local last, wire = tonumber(fields[4]), fields[8]
      if last > each.cursor then
        size = size + #wire
        if size > room and #wires > 0 then
          return {missing, cmsgpack.pack(heads), table.concat(wires)}
        end
        heads[#heads + 1] = {each.id, tonumber(fields[6]), tonumber(fields[2]), last, #wire}
        wires[#wires + 1] = wire
      end
    end
    if #entries == count then
      each.from = '(' .. entries[count][1]
      further[#further + 1] = each
    end
  end
  waiting, count = further, count * 2
end
return {missing, #heads > 0 and cmsgpack.pack(heads) or '', table.concat(wires)}
