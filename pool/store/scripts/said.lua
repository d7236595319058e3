-- Entries of the transcript.
--
-- KEYS: the session's
-- ARGV: 1 <tenant>:<session id>; ""; 0; number of the first entry (from 0); how many
-- Answers: number of the first entry that is answered, entries
if not it then
  return {0, {}}
end
local dropped = tonumber(call('HGET', SESSION, 'd')) or 0
local first = math.max(0, ROW[4] - dropped)
return {dropped + first, call('LRANGE', SAID, first, first + ROW[5] - 1)}
