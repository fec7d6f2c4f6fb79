-- The record as a resolver needs it: state, age, start, lease, run id, participants, modes, keys.
local function describe(record)
  if redis.call('EXISTS', record) == 0 then return { 'gone' } end
  local format = redis.call('HGET', record, 'format')
  if format ~= FORMAT then return { err = 'WEFTFORMAT ' .. (format or '?') } end
  local f = redis.call('HMGET', record, 'state', 'time', 'start', 'lease', 'run', 'parts', 'modes', 'keys')
  f[2] = string.format('%d', clock() - f[2])
  f[8] = f[8] and cmsgpack.unpack(f[8])
  return f
end
