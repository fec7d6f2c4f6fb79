-- The record as a resolver needs it: state, age, start, lease, run id, participants, modes, keys, and, if they are still to be run
-- and no script can, the commands.
local function describe(record)
  local f = redis.call('HMGET', record, 'state', 'time', 'start', 'lease', 'run', 'parts', 'modes', 'keys', 'way', 'batch')
  if not f[1] then return { 'gone' } end
  f[2] = string.format('%d', clock() - f[2])
  f[8] = f[8] and cmsgpack.unpack(f[8])
  f[9] = f[9] == 'n' and f[10] and cmsgpack.unpack(f[10])
  f[10] = nil
  return f
end
