-- The first of KEYS may have a hash tag already; otherwise one is made of what both names begin with.
local common = beginning(name)
local tag = group_of(KEYS[1] or '') or common and '{' .. match(common, '^(.-)[^%w]*$') .. '}'
if tag then return format([[@key_hash_tag@]], name, tag) end
return format([[@key_no_tag@]], name)
