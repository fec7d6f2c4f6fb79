-- Gives back the locks of tid. KEYS as for prepare.
local function release(tid, modes)
  redis.call('SREM', KEYS[#KEYS], tid)
  for i = 1, #modes do
    if string.sub(modes, i, i) == 's' then
      redis.call('HDEL', KEYS[3 * i], tid)
    else
      redis.call('DEL', KEYS[3 * i - 1])
    end
  end
end
