-- Be nudged about the log.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>  2 the watcher  3 ""
-- Answers: nil (there is no such session); end of the log
local end_epoch, end_seq, owner, held, watched = fields('le', 'ls', 'o', 'h', 'w')
if not end_epoch then
  return nil
end
local before = watched and #watchers(owner) or 0
call('SADD', WATCH, OWNER)
call('HSET', SESSION, 'w', '1')
if before == 0 and held == '1' then
  tell(owner, 'inbox')
end
return {end_epoch, end_seq}
