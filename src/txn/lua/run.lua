-- Runs one command, args[first..last], and returns its reply; an error is a reply like any other.
-- Lua numbers are doubles: from 2^53 on the digits of an integer are read again, as `kind` says ('s': a string, 'h': a
-- hash field), and returned as a string. nil, what a null is in RESP3, would end the array that holds the reply.
local function run(kind, args, first, last)
  local reply = redis.pcall(unpack(args, first, last))
  if kind ~= '.' and type(reply) == 'number' and math.abs(reply) >= 2 ^ 53 then
    if kind == 's' then
      reply = redis.call('GET', args[first + 1])
    else
      reply = redis.call('HGET', args[first + 1], args[first + 2])
    end
  end
  if reply == nil then return false end
  return reply
end
