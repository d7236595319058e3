-- Give a session back with its unfinished turns.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>  2 owner  3 epoch
-- Answers: 0 (the lease is lost) or 1
local owner, epoch, held, ttl, queue = fields('o', 'e', 'h', 't', 'q')
if owner ~= OWNER or epoch ~= EPOCH then
  return 0
end
seen(OWNER)
if held == '1' then
  call('HSET', SESSION, 'h', '0')
  if queue ~= '' then
    offer()
  else
    call('HDEL', WORK, NAME)
    rest(ttl)
  end
end
return 1
