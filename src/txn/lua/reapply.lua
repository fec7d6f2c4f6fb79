-- weft reapply 1
-- gone or aborted -> committed, for a transaction that is committed elsewhere and whose record was lost here. A batch that must run
-- natively is prepared again instead: commit follows.
-- KEYS: as for prepare. ARGV: tid, its start, lease, RESP version, run id, participants, batch, modes, the most bytes of replies to keep.
local record, tid, start, proto, batch, modes = KEYS[1], ARGV[1], ARGV[2], ARGV[4], ARGV[7], ARGV[8]
local state = redis.call('HGET', record, 'state')
if state == 'committed' then return committed(record) end
if state == 'prepared' then return { state } end

local now = clock()
if now > start + 600000 then return { 'clock', now } end

local keys = {}
for i = 1, #modes do
  keys[i] = KEYS[3 * i + 1]
  local refusal = held(KEYS[3 * i - 1], tid)
  if not refusal and string.sub(modes, i, i) ~= 's' then refusal = held(KEYS[3 * i], tid) end
  if refusal then return refusal end
end
local commands = cmsgpack.unpack(batch)
if native(commands) then return stage(keys, now) end
redis.call('HSET', record, 'format', FORMAT, 'start', start, 'lease', ARGV[3], 'proto', proto, 'run', ARGV[5], 'parts', ARGV[6], 'modes', modes,
  'keys', cmsgpack.pack(keys), 'time', string.format('%d', now))
return finish(record, tid, modes, commands, proto, ARGV[9])
