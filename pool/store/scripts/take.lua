-- Take webhooks that are due: each is due again later.
--
-- KEYS: 1 ap:{p}:hooks  ZSET turns whose webhook waits = when it is due, in ms
--       2 ap:{p}:tries  HASH turn = how often its delivery was tried, if it was
-- ARGV: 1 for how long, in ms  2... turn ids
-- Answers: turn id, tries, and so on, of those that were still due
local taken = {}
for i = 2, #ARGV do
  local due = call('ZSCORE', KEYS[1], ARGV[i])
  if due and tonumber(due) <= now then
    call('ZADD', KEYS[1], now + tonumber(ARGV[1]), ARGV[i])
    taken[#taken + 1] = ARGV[i]
    taken[#taken + 1] = call('HGET', KEYS[2], ARGV[i]) or '0'
  end
end
return taken
