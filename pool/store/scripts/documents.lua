-- Documents of a kind in the order of their ids.
--
-- KEYS: 1 ap:{p}:docs:<kind>      HASH id = document
--       2 ap:{p}:docs:<kind>:ids  ZSET ids, all with the score 0: in their own order
-- ARGV: 1 the id behind which they begin, or ""  2 how many
-- Answers: id, document, and so on
local first = ARGV[1] == '' and '-' or '(' .. ARGV[1]
local found = {}
for _, id in ipairs(call('ZRANGE', KEYS[2], first, '+', 'BYLEX', 'LIMIT', 0, ARGV[2])) do
  found[#found + 1] = id
  found[#found + 1] = call('HGET', KEYS[1], id)
end
return found
