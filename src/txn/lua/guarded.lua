-- weft guarded 1
-- Commands in one step, unless another transaction's lock is in their way.
-- KEYS: the locks that must be free, then the keys of the commands.
-- ARGV: the number of locks, RESP version, then for each command the number of its arguments, its kind, its arguments.
local locks, proto = tonumber(ARGV[1]), ARGV[2]
for i = 1, locks, 4000 do
  local last = math.min(i + 3999, locks)
  if redis.call('EXISTS', unpack(KEYS, i, last)) > 0 then
    for j = i, last do
      local refusal = held(KEYS[j])
      if refusal then return refusal end
    end
  end
end

local replies, at = {}, 3
if proto == '3' then redis.setresp(3) end
while at < #ARGV do
  local argc = tonumber(ARGV[at])
  replies[#replies + 1] = run(ARGV[at + 1], ARGV, at + 2, at + 1 + argc)
  at = at + 2 + argc
end
redis.setresp(2)
return replies
