-- Gives back the locks of tid. KEYS as for prepare.
local function release(tid, modes)
  local exclusive = {}
  for i = 1, #modes do
    if string.sub(modes, i, i) == 's' then
      redis.call('HDEL', KEYS[3 * i], tid)
    else
      exclusive[#exclusive + 1] = KEYS[3 * i - 1]
    end
  end
  many('DEL', exclusive)
  redis.call('SREM', KEYS[#KEYS], tid)
end
