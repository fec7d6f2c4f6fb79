-- weft fence 1
-- absent -> aborted, so that no prepare still under way can enter. Leaves every other state as it is, and answers the record.
-- KEYS: the record.
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], 'state', 'aborted', 'format', FORMAT, 'time', string.format('%d', clock()))
end
return describe(KEYS[1])
