-- Entries of the transcript.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>  2 ""  3 ""  4 number of the first entry (from 0)  5 how many
-- Answers: number of the first entry that is answered, entries
local made, dropped = fields('c', 'd')
if not made then
  return {0, {}}
end
dropped = tonumber(dropped) or 0
local first = math.max(0, tonumber(ARGV[4]) - dropped)
return {dropped + first, call('LRANGE', SAID, first, first + tonumber(ARGV[5]) - 1)}
