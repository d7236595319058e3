-- Leave a signal for whoever holds the session, now or next.
--
-- KEYS: the session's, and 10 what the turn has besides
-- ARGV: 1 <tenant>:<session id>; ""; 0; turn id; the question that it decides, or ""  2 the letter
-- Answers: 1, or 0 if nothing was left
local TURN_ID, QUESTION, LETTER = ROW[4], ROW[5], ARGV[2]
if not it or not in_queue(TURN_ID) then
  return 0
end
if QUESTION ~= '' then
  if call('HSETNX', KEYS[10], 'd:' .. QUESTION, '1') == 0 then
    return 0
  end
  it.besides = 1
else
  local index = call('LPOS', INBOX, LETTER, 'RANK', -1)
  local read = tonumber(call('HGET', SESSION, 'lr')) or 0
  if index and it.letters - call('LLEN', INBOX) + index + 1 > read then
    -- said before, and not read yet
    return 1
  end
end
call('RPUSH', INBOX, LETTER)
it.letters = it.letters + 1
save()
if it.held == 1 then
  nudges().tell(it.owner, 'inbox')
end
return 1
