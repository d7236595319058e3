-- Make a session, with the transcript of another perhaps.
--
-- KEYS: the session's, and
--  10 ap:{p}:index:<tenant>  ZSET  session id = when it was made, in microseconds
--  11 ap:{p}:tenants         SET   tenants that have an index
-- ARGV: 1 <tenant>:<session id>; ""; 0; its own time to live in ms, or 0
--   2 what it is made with, or ""  3... entries of its transcript
-- Answers: nil (there is one); when it was made
if it then
  return nil
end
make()
it = nothing()
it.used, it.ttl = now_us, ROW[4]
save()
if ARGV[2] ~= '' then
  call('HSET', SESSION, 'i', ARGV[2])
end
for i = 3, #ARGV do
  call('RPUSH', SAID, ARGV[i])
end
rest()
return now_us
