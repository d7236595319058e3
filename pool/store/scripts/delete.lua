-- Forget a session with all its turns.
--
-- KEYS: the session's, and 10 ap:{p}:index:<tenant>  11 ap:{p}:tenants  12 ap:{p}:hooks
--  13 ap:{p}:tries  14 ap:{p}:dead  15... its turns, in order
-- ARGV: 1 <tenant>:<session id>  2 ""  3 ""  4 tenant  5 session id  6... ids of its turns
-- Answers: none; busy, how many turns are unfinished; changed (it has other turns now); ok
local INDEX, TENANTS, HOOKS, TRIES, DEAD = KEYS[10], KEYS[11], KEYS[12], KEYS[13], KEYS[14]
local queue = fields('q')
if not queue then
  return {'none'}
elseif queue ~= '' then
  return {'busy', #listed(queue)}
end
local count = #ARGV - 5
local newest = call('LINDEX', IDS, -1) or ''
if call('LLEN', IDS) ~= count or (count > 0 and newest ~= ARGV[#ARGV]) then
  return {'changed'}
end
for i = 6, #ARGV do
  call('UNLINK', KEYS[i + 9])
  call('ZREM', HOOKS, ARGV[i])
  call('HDEL', TRIES, ARGV[i])
  call('ZREM', DEAD, ARGV[i] .. ':' .. ARGV[4])
end
call('UNLINK', SESSION)
clear()
call('HDEL', WORK, NAME)
call('ZREM', INDEX, ARGV[5])
if call('EXISTS', INDEX) == 0 then
  call('SREM', TENANTS, ARGV[4])
end
return {'ok'}
