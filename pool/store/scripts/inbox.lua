-- The letters behind a place; those up to it are forgotten.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>; owner; epoch; the place (letters are counted from 1)
-- Answers: nil (the lease is lost); 1 if watched, place before the first letter, letters
if not it or it.owner ~= OWNER or it.epoch ~= EPOCH or it.held == 0 then
  return nil
end
seen(OWNER)
local after = ROW[4]
local before = it.letters - call('LLEN', INBOX)
if after > before then
  call('LTRIM', INBOX, after - before, -1)
end
local letters = call('LRANGE', INBOX, 0, -1)
if #letters > 0 then
  call('HSET', SESSION, 'lr', it.letters)
end
local others = it.watched == 1 and #nudges().watchers(OWNER) > 0
return {others and 1 or 0, math.max(after, before), letters}
