-- Runs the batch, gives back the locks and leaves the record committed, with the replies if they are no longer than kept_max.
-- The script speaks RESP2 again before it returns: only then does false become a null for a client of either version.
local function finish(record, tid, modes, commands, proto, kept_max)
  local replies = {}
  if proto == '3' then redis.setresp(3) end
  for i, command in ipairs(commands) do
    replies[i] = run(command[1], command, 2, #command)
  end
  redis.setresp(2)
  release(tid, modes)
  local kept = cmsgpack.pack(replies)
  if #kept <= tonumber(kept_max) then
    redis.call('HSET', record, 'state', 'committed', 'batch', '', 'replies', kept)
  else
    redis.call('HSET', record, 'state', 'committed', 'batch', '')
  end
  return { 'committed', replies }
end

-- The answer of a record that is committed already.
local function committed(record)
  local kept = redis.call('HGET', record, 'replies')
  if kept then return { 'committed', cmsgpack.unpack(kept) } end
  return { 'committed' }
end
