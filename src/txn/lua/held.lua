-- The error to answer if a transaction other than `own` holds `lock`, else nil. It names the owner and the milliseconds left of
-- the owner's lease. An x-lock is the string 'tid deadline', an s-lock a hash of tid to deadline.
local function held(lock, own)
  local kind, tid, deadline = redis.call('TYPE', lock).ok, nil, nil
  if kind == 'string' then
    tid, deadline = string.match(redis.call('GET', lock), '^(%S+) (%d+)$')
    tid = tid or '?'
  elseif kind == 'hash' then
    local holders = redis.call('HGETALL', lock)
    for i = 1, #holders, 2 do
      if holders[i] ~= own then tid, deadline = holders[i], holders[i + 1] end
    end
  elseif kind ~= 'none' then
    tid = '?'
  end
  if tid and tid ~= own then
    return { err = string.format('WEFTLOCKED %s %d', tid, (deadline or 0) - clock()) }
  end
end
