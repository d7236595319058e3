-- Give a session back with its unfinished turns.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>; owner; epoch
-- Answers: 0 (the lease is lost) or 1
if not it or it.owner ~= OWNER or it.epoch ~= EPOCH then
  return 0
end
seen(OWNER)
if it.held == 1 then
  it.held = 0
  save()
  if it.queue ~= '' then
    nudges().offer()
  else
    call('HDEL', WORK, NAME)
    rest()
  end
end
return 1
