-- Forget what is left of a session that has expired.
--
-- KEYS: 1 ap:{p}:index:<tenant>  ZSET  session id = when it was made, in microseconds
--       2 ap:{p}:tenants         SET   tenants that have an index
--       3 the session  4... what else it had
-- ARGV: 1 tenant  2 id of the session
-- Answers: 0 (it is there) or 1
if call('EXISTS', KEYS[3]) == 1 then
  return 0
end
call('UNLINK', unpack(KEYS, 4))
call('ZREM', KEYS[1], ARGV[2])
if call('EXISTS', KEYS[1]) == 0 then
  call('SREM', KEYS[2], ARGV[1])
end
return 1
