-- The letters behind a place; those up to it are forgotten.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>  2 owner  3 epoch  4 the place (letters are counted from 1)
-- Answers: nil (the lease is lost); 1 if watched, place before the first letter, letters
local owner, epoch, held, count, watched = fields('o', 'e', 'h', 'l', 'w')
if owner ~= OWNER or epoch ~= EPOCH or held ~= '1' then
  return nil
end
seen(OWNER)
local after = tonumber(ARGV[4])
local before = (tonumber(count) or 0) - call('LLEN', INBOX)
if after > before then
  call('LTRIM', INBOX, after - before, -1)
end
local letters = call('LRANGE', INBOX, 0, -1)
if #letters > 0 then
  call('HSET', SESSION, 'lr', count)
end
local others = watched and #watchers(OWNER) > 0
return {others and 1 or 0, math.max(after, before), letters}
