-- Forget a document.
--
-- KEYS: see filing.lua
-- ARGV: 1 id
-- Answers: 0 (there was none) or 1
if call('HDEL', KEYS[1], ARGV[1]) == 0 then
  return 0
end
call('ZREM', KEYS[2], ARGV[1])
count_change()
return 1
