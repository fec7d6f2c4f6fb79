-- Copies take the place of the keys, elsewhere than the keys are; nothing that a script writes stays before weft has taken it from there.
-- KEYS arrives as the copies' names, ARGV as what is weft's, in one, the clients' names, and the clients' arguments.
local copies, clients, prefix, stays, shift = {}, {}, '', false, count + 1
for index = 1, count do
  local copy, name = KEYS[index], ARGV[index + 1]
  copies[name], clients[copy], prefix = copy, name, sub(copy, 1, #copy - #name)
  KEYS[index] = name
end
local function known_as(name) return copies[name] end
local function may_look_by(pattern) return false end
local function elsewhere(pattern) return true end
local function refusal(name) return format([[@key@]], name) end
