-- Make a session, with the transcript of another perhaps.
--
-- KEYS: the session's, and
--  10 ap:{p}:index:<tenant>  ZSET  session id = when it was made, in microseconds
--  11 ap:{p}:tenants         SET   tenants that have an index
-- ARGV: 1 <tenant>:<session id>  2 ""  3 ""  4 tenant  5 session id  6 what it is made with, or ""
--   7 its own time to live in ms, or ""  8... entries of its transcript
-- Answers: nil (there is one); when it was made
local INDEX, TENANTS = KEYS[10], KEYS[11]
if call('EXISTS', SESSION) == 1 then
  return nil
end
clear()
local newest = call('ZRANGE', INDEX, -1, -1, 'WITHSCORES')[2]
call('ZADD', INDEX, math.max(now_us, (tonumber(newest) or 0) + 1), ARGV[5])
call('SADD', TENANTS, ARGV[4])
call('HSET', SESSION, 'n', '0', 'q', '', 'c', now_text, 'r', now_text, 'u', now_text, 'o', '', 'e', '0',
  'h', '0', 'le', '0', 'ls', '0')
if ARGV[6] ~= '' then
  call('HSET', SESSION, 'i', ARGV[6])
end
if ARGV[7] ~= '' then
  call('HSET', SESSION, 't', ARGV[7])
end
for i = 8, #ARGV do
  call('RPUSH', SAID, ARGV[i])
end
rest(ARGV[7])
return now_text
