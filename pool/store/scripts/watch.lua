-- Be nudged about the log.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>; the watcher; 0
-- Answers: nil (there is no such session); end of the log
if not it then
  return nil
end
local before = it.watched == 1 and #nudges().watchers(it.owner) or 0
call('SADD', WATCH, OWNER)
it.watched = 1
save()
if before == 0 and it.held == 1 then
  nudges().tell(it.owner, 'inbox')
end
return {it.end_epoch, it.end_seq}
