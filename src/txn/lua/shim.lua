-- Goes before a user's script. Hides `redis` behind one that finds the keys which a command names, and refuses those that the script is
-- not to use. What these are, the part in place of the first mark says; there are two, `copies.lua` and `declared.lua`. All of it ends up
-- on one line, so that the script's lines keep their numbers; so every comment has a line of its own. The last `hidden` of KEYS are keys
-- that the client has not named; the script does not see them there. ARGV begins with their number, and with the token that tells weft's
-- own errors from those that the script makes up; it does not see these either.
local redis, server, _G, loadstring, load, pcall, xpcall, coroutine = (function()
  local real, globals, compile = redis, _G, loadstring
  local find, sub, match, gsub, lower, format, byte = string.find, string.sub, string.match, string.gsub, string.lower, string.format, string.byte
  -- ` command=rule ` for every command; `command::lua` says what a rule is.
  local rules = '@rules@'
  local count, hidden, token = #KEYS, match(ARGV[1], '^(%d+) (%x+)$')
  hidden = tonumber(hidden)
  -- Something may be written that stays; the text of the first refusal.
  local wrote, refused = false, nil
  @head@

  for index = 1, #ARGV do ARGV[index] = ARGV[index + shift] end
  for index = count, count - hidden + 1, -1 do KEYS[index] = nil end

  local function rule_of(name)
    local _, at = find(rules, ' ' .. name .. '=', 1, true)
    return at and match(rules, '^%S+', at + 1)
  end

  -- What the words of `args` mean to the server.
  local function word(args, index)
    local value = args[index]
    if type(value) == 'number' then return format('%.17g', value) end
    return value
  end

  local function option(args, index)
    return lower(tostring(word(args, index)))
  end

  -- The keys that only the options tell, from argument `start` on. A true answer: some cannot be told, or are in another database.
  local by_options = {
    S = function(args, n, key)
      local index, destination = 3, nil
      while index <= n do
        local name, has_value = option(args, index), index < n
        if name == 'limit' then
          index = index + 2
        elseif has_value and (name == 'by' or name == 'get') then
          index = index + 1
          if find(option(args, index), '*', 1, true) and not may_look_by(word(args, index)) then return true end
        elseif has_value and name == 'store' then
          index = index + 1
          destination = index
        end
        index = index + 1
      end
      if destination then key(destination) end
    end,
    G = function(args, n, key, start)
      local index = start + 1
      while index < n do
        local name = option(args, index)
        if name == 'store' or name == 'storedist' then
          index = index + 1
          key(index)
        elseif name == 'count' then
          index = index + 1
        end
        index = index + 1
      end
    end,
    X = function(args, n, key)
      local index, values = 2, { count = 1, block = 1, group = 2 }
      while index <= n do
        local name = option(args, index)
        if name == 'streams' then
          for at = index + 1, index + (n - index) / 2 do key(at) end
          return
        end
        index = index + 1 + (values[name] or 0)
      end
    end,
    C = function(args, n)
      for index = 4, n do
        if option(args, index) == 'db' then return true end
      end
    end,
    P = function(args) return elsewhere(word(args, 2)) end,
  }

  -- Puts what the server knows them by in the place of the keys that `rule` finds among the `n` words of `args`. What it cannot find since
  -- words are missing or wrong, the server refuses. Answers a key that is not to be used, or true if the command is not to be called at all.
  local function place(rule, args, n)
    local foreign
    local function key(index)
      local name = word(args, index)
      if type(name) ~= 'string' then return end
      local known = known_as(name)
      if known then args[index] = known else foreign = foreign or name end
    end
    for kind, first, last, step in string.gmatch(rule, '(%l)(%d+),(%-?%d+),(%d+)') do
      local from, to = first + 1, last + 1
      if kind == 'n' then
        local number = tonumber(match(tostring(word(args, from)), '^%d+$'))
        from, to = to, number and to + (number - 1) * step or 0
      elseif tonumber(last) < 0 then
        to = n + to
      else
        to = from + last
      end
      if to <= n then
        for index = from, to, step do key(index) end
      end
    end
    local kind, start = match(rule, '(%u)(%d*)')
    return kind and by_options[kind](args, n, key, start) or foreign
  end

  -- The error that ends the script, whatever the script makes of it: if it went on it would answer as if that were done which was refused.
  -- Nothing is carried out from then on. In front of its text weft finds `key`, if it may run the script again with that: while nothing is
  -- written that stays.
  local function refuse(text, key)
    local again = key and not wrote and #key <= @longest@
    local digits = again and gsub(key, '.', function(c) return format('%02x', byte(c)) end) or '-'
    refused = '@mark@' .. token .. ' ' .. digits .. ' ' .. text
    return { err = refused }
  end

  -- The error if the command in `args` is not to be carried out; otherwise whether its reply may name keys.
  local function prepare(args, n)
    if type(args[1]) ~= 'string' then return end
    local name = lower(args[1])
    local rule = rule_of(name)
    if rule == '>' and type(args[2]) == 'string' then
      name = name .. '|' .. lower(args[2])
      rule = rule_of(name)
    end
    if not rule then
      -- What weft does not know, no server knows: this one has the words for it. A text that holds that name in one piece is weft's own.
      args[1] = '_' .. '_weft:'
      return
    end
    local foreign = rule == '!' or (rule == '?' and not stays) or place(rule, args, n)
    if foreign == true then return refuse(format([[@command@]], name)) end
    if foreign then return refuse(refusal(sub(foreign, 1, 128)), foreign) end
    wrote = wrote or (stays and rule ~= '-' and not find(rule, '~', 1, true))
    return nil, not stays and find(rule, '*', 1, true)
  end

  local function named(value)
    if type(value) ~= 'table' then return clients[value] or value end
    local copy = {}
    for key, item in pairs(value) do copy[named(key)] = named(item) end
    return copy
  end

  local function attempt(...)
    if refused then return { err = refused } end
    local args, n = { ... }, select('#', ...)
    local refusal, names = prepare(args, n)
    if refusal then return refusal end
    local reply = real.pcall(unpack(args, 1, n))
    if type(reply) == 'table' and reply.err then
      local at, to = find(reply.err, prefix, 1, true)
      if at then reply.err = sub(reply.err, 1, at - 1) .. sub(reply.err, to + 1) end
      return reply
    end
    return names and named(reply) or reply
  end

  -- An error must come out of a function that is not Lua's for the server to tell the line of the script and not of this. A coroutine's
  -- is one. The error ends it; so `call` is a table that a new one makes callable again.
  local call, calling, loop = {}, { __metatable = false }, nil
  local function arm()
    calling.__call = coroutine.wrap(function(...) return loop(...) end)
  end
  loop = function(_, ...)
    local reply = attempt(...)
    if type(reply) == 'table' and reply.err then
      arm()
      error(reply)
    end
    return loop(coroutine.yield(reply))
  end
  arm()

  -- What catches errors, redis.pcall and Lua's own functions, lets that one through. The line that the server names is then the first.
  local function through(...)
    if refused then return call() end
    return ...
  end
  local function catching(catch)
    return function(...) return through(catch(...)) end
  end
  local pcall, xpcall, coroutines = catching(pcall), catching(xpcall), {}
  for name, item in pairs(coroutine) do coroutines[name] = item end
  coroutines.resume = catching(coroutine.resume)
  setmetatable(coroutines, { __newindex = coroutine, __metatable = false })

  local shown, seen = {}, {}
  for name, item in pairs(real) do shown[name] = item end
  -- What the script would put in their place goes the way of all that is assigned to the real one: to its refusal.
  shown.call, shown.pcall = nil, nil
  local calls = { call = setmetatable(call, calling), pcall = catching(attempt) }
  setmetatable(shown, { __index = calls, __newindex = real, __metatable = false })
  local other = rawget(globals, 'server') and shown

  -- What is compiled later must not find the real ones either.
  local function compile_text(text, name)
    if type(text) ~= 'string' then return compile(text, name) end
    local head = 'local redis, server, _G, loadstring, load, pcall, xpcall, coroutine = ... return function(...) '
    local chunk, problem = compile(head .. text .. '\nend', name or text)
    if not chunk then return nil, problem end
    return chunk(shown, other, seen, seen.loadstring, seen.load, pcall, xpcall, coroutines)
  end
  local function compile_pieces(piece, name)
    local pieces = {}
    repeat
      local text = piece()
      pieces[#pieces + 1] = text
    until not text or text == ''
    return compile_text(table.concat(pieces), name or '=(load)')
  end
  for name, item in pairs(globals) do seen[name] = item end
  seen.redis, seen.server, seen._G, seen.loadstring, seen.load = shown, other, seen, compile_text, compile_pieces
  seen.pcall, seen.xpcall, seen.coroutine = pcall, xpcall, coroutines
  setmetatable(seen, { __index = globals, __newindex = globals, __metatable = getmetatable(globals) or false })

  return shown, other, seen, compile_text, compile_pieces, pcall, xpcall, coroutines
end)()
