-- weft abort 1
-- prepared -> gone. Leaves every other state as it is.
-- KEYS: as for prepare. ARGV: tid.
local record, tid = KEYS[1], ARGV[1]
local state, modes = unpack(redis.call('HMGET', record, 'state', 'modes'))
if state ~= 'prepared' then return { state or 'gone' } end
if #KEYS ~= 2 + 3 * #modes then return { err = 'ERR weft abort: these are not the keys of the record' } end
release(tid, modes)
redis.call('DEL', record)
return { 'gone' }
