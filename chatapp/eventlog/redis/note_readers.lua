-- The answers that are read elsewhere.
for _, id in ipairs(ARGV) do
  local runs = redis.call('HEXISTS', P .. 'running', id) == 1
  if runs then redis.call('HINCRBY', P .. 'reads', id, 1) end
end
