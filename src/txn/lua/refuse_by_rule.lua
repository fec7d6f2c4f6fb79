-- A rule with which both names begin would hold them together.
local common = beginning(name)
if common then return format([[@key_rule@]], name, common) end
return format([[@key_tag@]], name)
