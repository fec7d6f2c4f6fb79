-- The record as a resolver needs it: state, age, start, lease, run id, participants, modes, keys.
local function describe(record)
  local f = redis.call('HMGET', record, 'state', 'time', 'start', 'lease', 'run', 'parts', 'modes', 'keys')
  if not f[1] then return { 'gone' } end
  f[2] = string.format('%d', clock() - f[2])
  f[8] = f[8] and cmsgpack.unpack(f[8])
  return f
end
