-- A try to deliver a webhook failed: it counts, and the next is due later.
--
-- KEYS: 1 ap:{p}:hooks  ZSET turns whose webhook waits = when it is due, in ms
--       2 ap:{p}:tries  HASH turn = how often its delivery was tried, if it was
-- ARGV: 1 turn id  2 how much later, in ms
if call('ZSCORE', KEYS[1], ARGV[1]) then
  call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
  call('HINCRBY', KEYS[2], ARGV[1], 1)
end
