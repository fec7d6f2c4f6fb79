-- The script runs where its keys are, on the keys themselves: on those that it declares, and on those of their groups, which are there
-- too. ARGV arrives as what is weft's, in one, and the clients' arguments. `affinity` says what a group is.
local patterns, declared, groups, clients, prefix, stays, shift = { @patterns@ }, {}, {}, {}, '', true, 1
local function group_of(name)
  for index = 1, #patterns do
    local group = match(name, patterns[index])
    if group then return group end
  end
  local open = find(name, '{', 1, true)
  local close = open and find(name, '}', open + 1, true)
  return close and close > open + 1 and sub(name, open, close)
end
for index = 1, count do
  local group = group_of(KEYS[index])
  declared[KEYS[index]] = true
  if group then groups[group] = true end
end
local function may_look_by(pattern)
  return sub(pattern, 1, 7) ~= '_' .. '_weft:' and groups[group_of(pattern) or 0]
end
local function known_as(name)
  return (declared[name] or may_look_by(name)) and name
end
-- What KEYS is to find is all of a group, which has to be here. Other patterns are this shard's.
local function elsewhere(pattern)
  local group = type(pattern) == 'string' and group_of(pattern)
  return group and not find(group, '[*?%[\\]') and not known_as(pattern) and pattern
end
-- A part that the names of a key and of the first of KEYS begin with, if a rule or a hash tag could hold both together by that.
local function beginning(name)
  local first, length = KEYS[1] or '', 0
  while length < #first and byte(first, length + 1) == byte(name, length + 1) do length = length + 1 end
  local common = sub(name, 1, length)
  common = match(common, '^.*[^%w]') or common
  return match(common, '^[%w%p]*$') and match(common, '%w') and not match(common, '[{}*]') and common
end
local function refusal(name)
  @refusal@
end
