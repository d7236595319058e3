-- An agent's state of the session, or the checkpoint of a turn.
--
-- KEYS: the session's, and 10 what the turn has besides
-- ARGV: 1 <tenant>:<session id>; owner; epoch; agent
-- Answers: lost; ok, {version, format, parts, entries not seen}
if not it or it.owner ~= OWNER or it.epoch ~= EPOCH then
  return {'lost'}
end
return {'ok', states().loaded(KEYS[10], ROW[4])}
