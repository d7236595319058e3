-- Keep a document of a kind in the place of another, if that is still there.
--
-- KEYS: see filing.lua
-- ARGV: 1 id  2 document  3 the other (none: there is to be none)
-- Answers: 0 (something else is there) or 1
local kept = call('HGET', KEYS[1], ARGV[1])
if kept == ARGV[2] then
  return 1
end
if kept ~= (ARGV[3] or false) then
  return 0
end
file(ARGV[1], ARGV[2])
count_change()
return 1
