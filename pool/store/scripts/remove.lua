-- Forget a document.
--
-- KEYS: 1 ap:{p}:docs:<kind>         HASH id = document
--       2 ap:{p}:docs:<kind>:ids     ZSET ids, all with the score 0: in their own order
--       3 ap:{p}:docs:<kind>:changes STRING a number that only grows
-- ARGV: 1 id
-- Answers: 0 (there was none) or 1
if call('HDEL', KEYS[1], ARGV[1]) == 0 then
  return 0
end
call('ZREM', KEYS[2], ARGV[1])
-- what a failover lost is not counted again as the same number
local changes = tonumber(call('GET', KEYS[3])) or 0
call('SET', KEYS[3], int(math.max(changes + 1, now)))
return 1
