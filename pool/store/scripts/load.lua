-- An agent's state of the session, or the checkpoint of a turn.
--
-- KEYS: the session's, and 10 what the turn has besides
-- ARGV: 1 <tenant>:<session id>  2 owner  3 epoch  4 agent
-- Answers: lost; ok, {version, format, parts, entries not seen}
local owner, epoch, dropped, has_states = fields('o', 'e', 'd', 's')
if owner ~= OWNER or epoch ~= EPOCH then
  return {'lost'}
end
return {'ok', states().loaded(KEYS[10], ARGV[4], has_states, dropped)}
