-- A webhook was delivered, or given up.
--
-- KEYS: 1 ap:{p}:hooks  ZSET turns whose webhook waits = when it is due, in ms
--       2 ap:{p}:tries  HASH turn = how often its delivery was tried, if it was
-- ARGV: 1 turn id
call('ZREM', KEYS[1], ARGV[1])
call('HDEL', KEYS[2], ARGV[1])
