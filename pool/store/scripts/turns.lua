-- Ids of turns, in the order of acceptance. The n-th turn that was accepted has the place n.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>; ""; 0; the place before the first; how many
-- Answers: place of the last turn of all, place before the first that is answered, ids
if not it then
  return {0, 0, {}}
end
local first = math.max(0, ROW[4] - it.gone)
return {it.accepted, it.gone + first, call('LRANGE', IDS, first, first + ROW[5] - 1)}
