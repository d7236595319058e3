-- Forget a session with all its turns.
--
-- KEYS: the session's, and 10 ap:{p}:index:<tenant>  11 ap:{p}:tenants  12 ap:{p}:hooks
--  13 ap:{p}:tries  14 ap:{p}:dead  15... its turns, in order
-- ARGV: 1 <tenant>:<session id>; ""; 0; tenant, session id  2... ids of its turns
-- Answers: none; busy, how many turns are unfinished; changed (it has other turns now); ok
local INDEX, TENANTS, HOOKS, TRIES, DEAD = KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local TENANT, ID = ROW[4], ROW[5]
if not it then
  return {'none'}
elseif it.queue ~= '' then
  return {'busy', #listed()}
end
local count = #ARGV - 1
local newest = call('LINDEX', IDS, -1) or ''
if call('LLEN', IDS) ~= count or (count > 0 and newest ~= ARGV[#ARGV]) then
  return {'changed'}
end
for i = 1, count do
  local id = ARGV[i + 1]
  call('UNLINK', KEYS[i + 14])
  call('ZREM', HOOKS, id)
  call('HDEL', TRIES, id)
  call('ZREM', DEAD, id .. ':' .. TENANT)
end
call('UNLINK', SESSION, IDS, SAID, STATES, LOG, INBOX, WATCH)
call('HDEL', WORK, NAME)
call('ZREM', INDEX, ID)
if call('EXISTS', INDEX) == 0 then
  call('SREM', TENANTS, TENANT)
end
return {'ok'}
