-- Webhooks that are due, oldest first.
--
-- KEYS: 1 ap:{p}:hooks  ZSET turns whose webhook waits = when it is due, in ms
-- ARGV: 1 how many
-- Answers: turn id, when it was due, and so on
return call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
