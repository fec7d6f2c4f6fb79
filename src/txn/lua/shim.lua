-- Goes before a user's script. Hides `redis` behind one that finds the keys which a command names, and refuses those that the script is
-- not to use. What these are, the part in place of the first mark says; there are two, `copies.lua` and `declared.lua`. All of it ends up
-- on one line, so that the script's lines keep their numbers; so every comment has a line of its own. The last `hidden` of KEYS are keys
-- that the client has not named; the script does not see them there.
local redis, server, _G, loadstring, load = (function()
  local real, globals, compile = redis, _G, loadstring
  local find, sub, match, gsub, lower, format, byte = string.find, string.sub, string.match, string.gsub, string.lower, string.format, string.byte
  -- ` command=rule ` for every command; `command::lua` says what a rule is.
  local rules = '@rules@'
  local count, hidden = #KEYS, tonumber(ARGV[1])
  -- Something may be written that stays; a key was refused when nothing was.
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
        if option(args, index) == 'db' and not stays then return true end
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

  -- The error for a key that is not to be used. While nothing is written that stays, weft may run the script again, with that key: it finds
  -- the key in front of the error. So that nothing is written from then on either, all that follows is refused as well.
  local function refuse(name)
    local text = refusal(sub(name, 1, 128))
    if wrote or #name > @longest@ then return { err = text } end
    refused = stays and name
    return { err = '@mark@' .. gsub(name, '.', function(c) return format('%02x', byte(c)) end) .. ' ' .. text }
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
    local foreign = rule == '!' or (rule == '?' and not stays) or place(rule, args, n)
    if foreign == true then return { err = format([[@command@]], name) } end
    if foreign then return refuse(foreign) end
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
    if refused then return refuse(refused) end
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

  -- After a refusal for which it is run again the script is not to go on: it would answer as if it had written what it no longer may.
  local function try(...)
    local reply = attempt(...)
    if refused then return call(...) end
    return reply
  end

  local shown, seen = {}, {}
  for name, item in pairs(real) do shown[name] = item end
  shown.call, shown.pcall = setmetatable(call, calling), try
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
