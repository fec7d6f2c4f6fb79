#!lua flags=allow-oom
-- weft trace 1
-- Writes something and takes it back. The connection has then written, so that a WAIT behind it has something to wait for; replication
-- is in order, so whoever has it has everything before it.
-- KEYS: a key of weft's own.
redis.call('SET', KEYS[1], '')
redis.call('DEL', KEYS[1])
return 1
