-- Ids of turns, in the order of acceptance. The n-th turn that was accepted has the place n.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>  2 ""  3 ""  4 the place before the first  5 how many
-- Answers: place of the last turn of all, place before the first that is answered, ids
local accepted, gone = fields('n', 'g')
if not accepted then
  return {0, 0, {}}
end
gone = tonumber(gone) or 0
local first = math.max(0, tonumber(ARGV[4]) - gone)
return {tonumber(accepted), gone + first, call('LRANGE', IDS, first, first + tonumber(ARGV[5]) - 1)}
