-- Calls a command with args, as many at a time as Lua's stack holds. Answers the sum of its replies if they are numbers.
local function many(command, args)
  local sum = 0
  for first = 1, #args, 4000 do
    local reply = redis.call(command, unpack(args, first, math.min(first + 3999, #args)))
    if type(reply) == 'number' then sum = sum + reply end
  end
  return sum
end
