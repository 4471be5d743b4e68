-- The answers.
for _, id in ipairs(ARGV) do forget(id) end
