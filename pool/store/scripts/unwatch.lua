-- Be nudged about the log no more. Watchers that are gone go too.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>; the watcher; 0
call('SREM', WATCH, OWNER)
for _, watcher in ipairs(call('SMEMBERS', WATCH)) do
  if not lives(watcher) then
    call('SREM', WATCH, watcher)
  end
end
if it and call('EXISTS', WATCH) == 0 then
  it.watched = 0
  save()
end
