-- weft prepare 1
-- absent -> prepared: takes the locks and writes the record, or refuses and writes nothing.
-- KEYS: the record, then for each key its x-lock, its s-lock and the key, then the gate.
-- ARGV: tid, its start, lease, RESP version, run id, participants, batch, and for each key its mode: 's' shared, 'x'
-- exclusive, 'n' exclusive and the key must not exist.
local record, tid, start, modes = KEYS[1], ARGV[1], ARGV[2], ARGV[8]
-- Seldom is any of them there: one look at all.
local absent = { record }
for i = 1, #modes do
  absent[#absent + 1] = KEYS[3 * i - 1]
  if string.sub(modes, i, i) ~= 's' then absent[#absent + 1] = KEYS[3 * i] end
end
local met = many('EXISTS', absent) > 0
local state = met and redis.call('HGET', record, 'state')
if state then return { state } end

local now = clock()
if math.abs(now - start) > 300000 then return { 'clock', now } end

for i = 2, met and #absent or 0 do
  local refusal = held(absent[i], tid)
  if refusal then return refusal end
end
-- Only now: what a key is while another transaction holds it may still change.
local keys = {}
for i = 1, #modes do
  keys[i] = KEYS[3 * i + 1]
  if string.sub(modes, i, i) == 'n' and redis.call('EXISTS', keys[i]) > 0 then return { 'exists' } end
end
return stage(keys, now)
