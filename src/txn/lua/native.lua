-- Whether some of the commands can only be carried out natively.
local function native(commands)
  for _, command in ipairs(commands) do
    if command[1] == 'n' then return true end
  end
  return false
end
