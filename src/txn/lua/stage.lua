-- Leaves the record prepared and takes the locks. KEYS and ARGV as prepare and reapply have them in common; `keys` are the users' keys.
local function stage(keys, now)
  local tid, lease, modes = ARGV[1], ARGV[3], ARGV[8]
  redis.call('HSET', KEYS[1], 'state', 'prepared', 'format', FORMAT, 'start', ARGV[2], 'lease', lease, 'proto', ARGV[4], 'run', ARGV[5], 'parts', ARGV[6],
    'batch', ARGV[7], 'modes', modes, 'keys', cmsgpack.pack(keys), 'time', string.format('%d', now))
  redis.call('SADD', KEYS[#KEYS], tid)
  local deadline = string.format('%d', now + lease)
  local exclusive, owner = {}, tid .. ' ' .. deadline
  for i = 1, #modes do
    if string.sub(modes, i, i) == 's' then
      redis.call('HSET', KEYS[3 * i], tid, deadline)
    else
      exclusive[#exclusive + 1] = KEYS[3 * i - 1]
      exclusive[#exclusive + 1] = owner
    end
  end
  many('MSET', exclusive)
  return { 'prepared' }
end
