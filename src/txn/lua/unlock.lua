-- weft unlock 1
-- Takes away the locks of tid that no prepared record stands behind; the record stays as it is. Answers how many there were, and the
-- record as inspect does. Locks and record come and go together, so such a lock means that the record was lost. What a record of another
-- format says is not for this version to tell.
-- KEYS: as for prepare, of any of the keys that tid may have locked. ARGV: tid.
local record, tid, count = KEYS[1], ARGV[1], 0
local state, format = unpack(redis.call('HMGET', record, 'state', 'format'))
if state ~= 'prepared' and (format == FORMAT or redis.call('EXISTS', record) == 0) then
  redis.call('SREM', KEYS[#KEYS], tid)
  for i = 2, #KEYS - 1, 3 do
    local x, s = KEYS[i], KEYS[i + 1]
    if redis.call('TYPE', x).ok == 'string' and string.match(redis.call('GET', x), '^%S+') == tid then
      count = count + redis.call('DEL', x)
    end
    if redis.call('TYPE', s).ok == 'hash' then count = count + redis.call('HDEL', s, tid) end
  end
end
return { count, describe(record) }
