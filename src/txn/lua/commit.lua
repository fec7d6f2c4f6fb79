-- weft commit 1
-- prepared -> committed. Sent again, it answers the replies of the one execution. A batch that must run natively is answered, and
-- nothing is changed.
-- KEYS: as for prepare. ARGV: tid, the most bytes of replies to keep.
local record, tid = KEYS[1], ARGV[1]
local state, modes, batch, proto = unpack(redis.call('HMGET', record, 'state', 'modes', 'batch', 'proto'))
if state == 'committed' then return committed(record) end
if state ~= 'prepared' then return { state or 'gone' } end
if #KEYS ~= 2 + 3 * #modes then return { err = 'ERR weft commit: these are not the keys of the record' } end
local commands = cmsgpack.unpack(batch)
if native(commands) then return { 'native', commands } end
return finish(record, tid, modes, commands, proto, ARGV[2])
