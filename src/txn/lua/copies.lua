-- Goes before a user's script whose keys are copies here. Hides `redis` behind one that puts the copies in the place of the keys that a
-- command names, gives replies and errors the clients' names back, and refuses what has no copy. KEYS arrives as the copies' names, ARGV as
-- the clients' names and then the clients' arguments. All of it ends up on one line, so that the script's lines keep their numbers; so
-- every comment has a line of its own.
local redis, server, _G, loadstring, load = (function()
  local real, globals, compile = redis, _G, loadstring
  local find, sub, match, lower, format = string.find, string.sub, string.match, string.lower, string.format
  -- ` command=rule ` for every command; `command::lua` says what a rule is.
  local rules = '@rules@'

  local copies, clients, prefix, count = {}, {}, '', #KEYS
  for index = 1, count do
    local copy, name = KEYS[index], ARGV[index]
    copies[name], clients[copy], prefix = copy, name, sub(copy, 1, #copy - #name)
    KEYS[index] = name
  end
  for index = 1, #ARGV do ARGV[index] = ARGV[index + count] end

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
          if find(option(args, index), '*', 1, true) then return true end
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
  }

  -- Puts copies in the place of the keys that `rule` finds among the `n` words of `args`. What it cannot find since words are missing or
  -- wrong, the server refuses. Answers an undeclared key, or true if the command cannot be carried out on copies at all.
  local function place(rule, args, n)
    local foreign
    local function key(index)
      local name = word(args, index)
      if copies[name] then
        args[index] = copies[name]
      elseif type(name) == 'string' then
        foreign = foreign or name
      end
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
      -- What weft does not know, no server knows: this one has the words for it.
      args[1] = '__weft:'
      return
    end
    local foreign = rule == '!' or place(rule, args, n)
    if foreign == true then return { err = format([[@command@]], name) } end
    if foreign then return { err = format([[@key@]], sub(foreign, 1, 128)) } end
    return nil, sub(rule, 1, 1) == '*'
  end

  local function named(value)
    if type(value) ~= 'table' then return clients[value] or value end
    local copy = {}
    for key, item in pairs(value) do copy[named(key)] = named(item) end
    return copy
  end

  local function attempt(...)
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

  local shown, seen = {}, {}
  for name, item in pairs(real) do shown[name] = item end
  shown.call, shown.pcall = setmetatable(call, calling), attempt
  setmetatable(shown, { __newindex = real, __metatable = false })
  local other = rawget(globals, 'server') and shown

  -- What is compiled later must not find the real ones either.
  local function compile_text(text, name)
    if type(text) ~= 'string' then return compile(text, name) end
    local head = 'local redis, server, _G, loadstring, load = ... return function(...) '
    local chunk, problem = compile(head .. text .. '\nend', name or text)
    if not chunk then return nil, problem end
    return chunk(shown, other, seen, seen.loadstring, seen.load)
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
  setmetatable(seen, { __index = globals, __newindex = globals, __metatable = false })

  return shown, other, seen, compile_text, compile_pieces
end)()
