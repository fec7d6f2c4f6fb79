-- weft forget 1
-- Deletes those records that are in a state and of an age (milliseconds) at least. Answers how many.
-- KEYS: the records. ARGV: the state, the age.
local now, count = clock(), 0
for _, record in ipairs(KEYS) do
  local state, time, format = unpack(redis.call('HMGET', record, 'state', 'time', 'format'))
  if format == FORMAT and state == ARGV[1] and now - time >= tonumber(ARGV[2]) then
    count = count + redis.call('DEL', record)
  end
end
return count
