-- weft show 1
-- Answers the record as inspect does, and the names of the commands that wait in it.
-- KEYS: the record.
local names, batch = {}, redis.call('HGET', KEYS[1], 'batch')
if batch and batch ~= '' then
  for i, command in ipairs(cmsgpack.unpack(batch)) do names[i] = command[2] end
end
return { names, describe(KEYS[1]) }
