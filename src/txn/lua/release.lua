-- Gives back the locks of tid. KEYS: the record, then for each key its x-lock, its s-lock and the key.
local function release(tid, modes)
  for i = 1, #modes do
    if string.sub(modes, i, i) == 's' then
      redis.call('HDEL', KEYS[3 * i], tid)
    else
      redis.call('DEL', KEYS[3 * i - 1])
    end
  end
end
