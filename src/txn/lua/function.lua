-- Goes before the text of a library and makes a script of it that calls one of its functions; the shim has gone before. All of it ends up on
-- the first line of that text, so that the library's lines keep their numbers. KEYS and ARGV are no globals of a function. While a library loads it
-- finds another table as `redis`, and `server`, than its functions do, as at a server: one that it keeps registers nothing later.
local registered, functions = {}, redis
local redis = setmetatable({}, { __index = functions, __newindex = functions, __metatable = false })
local server = server and redis
rawset(redis, 'register_function', function(name, callback)
  if type(name) == 'table' then name, callback = name.function_name, name.callback end
  registered[name] = callback
end)
local function loaded()
  -- An error out of a coroutine has the line of who calls it.
  local late = 'ERR ' .. (server and 'server' or 'redis') .. '@late@'
  rawset(redis, 'register_function', coroutine.wrap(function() error({ err = late }) end))
  redis, server = functions, server and functions
end
local function library(KEYS, ARGV)
