-- Goes before the text of a library and makes a script of it that calls one of its functions; the shim has gone before. All of it ends up on
-- the first line of that text, so that the library's lines keep their numbers. KEYS and ARGV are no globals of a function.
local registered = {}
rawset(redis, 'register_function', function(name, callback)
  if type(name) == 'table' then name, callback = name.function_name, name.callback end
  registered[name] = callback
end)
local function library(KEYS, ARGV)
